// Tracks: what holds over which steps, as first, last, word, first, last, word, …; and lanes, which draw them.

const SVG = "http://www.w3.org/2000/svg";
const NARROWEST = 0.15; // per cent of a lane: what is shorter is drawn together with such neighbours
const LEAST = 0.4; // per cent: nothing is drawn shorter

const drawn = (name, said) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(said)) element.setAttribute(key, value);
  return element;
};

/** The tracks of one chapter; of subtrees they are merged when they are asked for. */
class Tracks {
  constructor({ tracks, words, parents, lanes }) {
    this.all = [...tracks];
    this.words = [...words];
    this.mixed = this._word("mixed");
    this.unknown = this._word("?");
    this.none = this._word("–");
    this.known = new Map(this.all.map((track, i) => [track.join(), i]));
    this.merged = new Map();
    this.below = {};
    for (const name of ["weights", "stats", "requires_grad"]) this.below[name] = this._overSubtrees(lanes[name], parents);
    for (const name of ["training", "trainable", "bn_freeze"]) {
      this.below[name] = lanes[name][1].map((n) => lanes[name][0][n][0]);
    }
  }

  _word(word) {
    if (!this.words.includes(word)) this.words.push(word);
    return this.words.indexOf(word);
  }

  _overSubtrees([sets, which], parents) {
    const own = sets.map((some) => some.reduce((one, other) => this._merge(one, other), -1));
    const total = Int32Array.from(which, (n) => own[n]);
    for (let i = total.length - 1; i > 0; i--) total[parents[i]] = this._merge(total[parents[i]], total[i]);
    return total;
  }

  _merge(one, other) {
    if (one === other || other < 0) return one;
    if (one < 0) return other;
    const key = one < other ? `${one} ${other}` : `${other} ${one}`;
    if (!this.merged.has(key)) this.merged.set(key, this._intern(this._joined(this.all[one], this.all[other])));
    return this.merged.get(key);
  }

  _intern(track) {
    const text = track.join();
    if (!this.known.has(text)) this.known.set(text, this.all.push(track) - 1);
    return this.known.get(text);
  }

  _joined(one, other) {
    const edges = new Set();
    for (const track of [one, other]) {
      for (let n = 0; n < track.length; n += 3) edges.add(track[n]).add(track[n + 1] + 1);
    }
    const starts = [...edges].sort((a, b) => a - b), found = [];
    for (let n = 0; n + 1 < starts.length; n++) {
      const words = [this._wordAt(one, starts[n]), this._wordAt(other, starts[n])].filter((word) => word !== this.none);
      if (words.every((word) => word === undefined)) continue;
      const word = words.length ? (words.every((some) => some === words[0]) ? words[0] : this._both(words)) : this.none;
      if (found.at(-1) === word && found.at(-2) === starts[n] - 1) found[found.length - 2] = starts[n + 1] - 1;
      else found.push(starts[n], starts[n + 1] - 1, word);
    }
    return found;
  }

  _both(words) {
    const sure = words.filter((word) => word !== undefined && word !== this.unknown);
    return sure.length === 1 ? this.unknown : this.mixed;
  }

  _wordAt(track, step) {
    let low = 0, high = track.length / 3;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (track[3 * middle + 1] < step) low = middle + 1;
      else high = middle;
    }
    return track[3 * low] <= step ? track[3 * low + 2] : undefined;
  }

  track(name, module) {
    const number = this.below[name][module];
    return number < 0 ? null : this.all[number];
  }

  /** Say what a track says of a step: a dash where there is none, a question mark where nobody looked. */
  at(name, module, step) {
    const track = this.track(name, module);
    return track ? this.words[this._wordAt(track, step) ?? this.unknown] : "–";
  }

  /** Say the whole track in words. */
  told(name, module) {
    const track = this.track(name, module), found = [];
    for (let n = 0; track && n < track.length; n += 3) {
      const [first, last, word] = track.slice(n, n + 3);
      found.push(`${this.words[word]} ${first === last ? first : `${first}–${last}`}`);
    }
    if (found.length > 12) return `${found.slice(0, 12).join(", ")}, and ${found.length - 12} more`;
    return found.join(", ") || "nobody looked";
  }

  /** Draw a track over the steps of a chapter, with a mark at the chosen one. */
  lane(name, module, first, last, step) {
    const track = this.track(name, module);
    if (!track) return "";
    const share = (steps) => (100 * steps) / Math.max(1, last - first + 1);
    const lane = drawn("svg", { class: "lane", role: "img", "aria-label": this.told(name, module) });
    for (const [start, end, word] of this._visible(track, first, last)) {
      const said = { class: kindOf(this.words[word] ?? "?"), x: `${share(start - first)}%`, width: `${Math.max(share(end - start + 1), LEAST)}%` };
      lane.append(drawn("rect", { ...said, ...SHAPES[said.class] }));
    }
    lane.append(drawn("rect", { class: "here", x: `${share(step - first)}%`, width: `${share(1)}%`, height: 26 }));
    return lane;
  }

  /** Give the stretches that can be seen; those that are too short are one of mixed. */
  _visible(track, first, last) {
    const least = ((last - first + 1) * NARROWEST) / 100, found = [];
    for (let n = 0; n < track.length; n += 3) {
      const start = Math.max(track[n], first), end = track[n + 1], before = found.at(-1);
      if (end < first) continue;
      const isShort = end - start + 1 < least;
      if (isShort && before?.isShort && before[1] >= start - 1 - least) {
        if (before[2] !== track[n + 2]) before[2] = this.mixed;
        before[1] = end;
      } else found.push(Object.assign([start, end, track[n + 2]], { isShort }));
    }
    return found;
  }
}

const SHAPES = { // a sign for each state, beside its colour: how high it stands
  move: { y: 6, height: 14 }, still: { y: 12, height: 2 }, mixed: { y: 9, height: 8 }, odd: { y: 3, height: 20 },
  unknown: { y: 12, height: 1 },
};
