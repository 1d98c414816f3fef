// A run over its steps: what each module was and did, with the step that was chosen.

const data = JSON.parse(document.getElementById("data").textContent);
const FLAGS = { training: "mode", trainable: "trainable", bn_freeze: "bn_freeze", requires_grad: "requires_grad" };
const KEPT = { training: 6, requires_grad: 5, trainable: 1, bn_freeze: 1 }; // the least gives way first
const WIDTHS = { training: 104, requires_grad: 120 };
const slider = document.getElementById("slider"), number = document.getElementById("step");
const chapters = data.chapters.map((chapter, n) => Object.assign(chapter, { number: n }));
const wrong = new Map(); // by path
for (const finding of data.findings) {
  for (const module of finding.modules) {
    const path = pathsOf(chapters.at(-1))[module];
    wrong.set(path, [...(wrong.get(path) ?? []), finding]);
  }
}
let here = chapters.at(-1), step = Math.max(1, data.steps);

const trees = chapters.map((chapter) => {
  const grid = make("div", "tree");
  const said = { role: "treegrid", tabindex: 0, "aria-label": "Modules", "aria-describedby": "keys" };
  for (const [name, value] of Object.entries(said)) grid.setAttribute(name, value);
  const tree = new Tree(grid, chapter, columns(chapter), cell, chosen);
  tree.title = (i) => chapter.types[chapter.type[i]].split(".").at(-1) || (i ? "" : "(root)");
  Object.assign(chapter, { tracks: new Tracks({ ...chapter, parents: tree.parents }), tree });
  chapter.own = chapter.own.map((n) => chapter.tensors[n]);
  chapter.below = accumulated(tree.paths.map((path) => (wrong.get(path) ?? []).length), tree.parents);
  grid.hidden = true;
  document.getElementById("trees").append(grid);
  return tree;
});

const search = new Search(trees.at(-1), (i) => here.own[i], here.aliases, {
  flips: (i) => Object.keys(FLAGS).some((flag) => ends(flag, i)[0] !== ends(flag, i)[1]),
  moved: (i) => ["weights", "stats"].some((lane) => ["move", "mixed", "odd"].includes(kindOf(here.tracks.at(lane, i, step)))),
  findings: (i) => wrong.has(here.tree.paths[i]),
});

function pathsOf({ names, depths }) {
  const above = [];
  return names.map((name, i) => {
    above.length = depths[i];
    above.push(name);
    return above.slice(1).join(".");
  });
}

function columns(chapter) {
  const says = (flag) => chapter.lanes[flag][0].some(([track]) => chapter.tracks[track][2] !== chapter.words.indexOf("–") || chapter.tracks[track].length > 3);
  const flags = Object.entries(FLAGS).filter(([flag]) => flag === "training" || flag === "requires_grad" || says(flag));
  const found = flags.map(([key, head]) => ({ key, head, width: WIDTHS[key] ?? 84, keep: KEPT[key], group: "flags, as the step began → ended" }));
  for (const [key, part, group] of [["weights", "weights", "weights, by step()"], ["stats", "stats", "statistics, by forward()"]]) {
    found.push({ key: `${key} at`, head: "at the step", width: 98, keep: 4, part, group });
    found.push({ key, head: axis, width: window.innerWidth < 900 ? 70 : 110, keep: 9, grows: 1, part, group });
  }
  if (data.findings.length) found.push({ key: "findings", head: "rule", width: 108, keep: 5, group: "findings" });
  return found;
}

/** Draw where something flipped, above the lanes. */
function axis() {
  const span = Math.max(1, here.last - here.first + 1), marks = drawn("svg", { class: "axis", role: "img", "aria-label": `steps ${here.first} to ${here.last}, and where flags flipped` });
  const seen = new Set(data.flips.map((flip) => Math.floor((600 * (flip.step - here.first)) / span)));
  for (const at of seen) marks.append(drawn("rect", { class: "flip", x: `${at / 6}%`, width: 2, height: 12, y: 7 }));
  return make("span", "axis", make("span", "", here.first), marks, make("span", "", here.last));
}

/** Give a flag as the chosen step found it and as it left it. */
function ends(flag, module) {
  return [step - 1, step].map((one) => here.tracks.at(flag, module, one));
}

const arrow = ([before, after]) => (before === after ? after : make("b", "flipped", `${before} → ${after}`));

function cell(key, line) {
  if (key in FLAGS) return arrow(ends(key, line.at));
  if (key.endsWith(" at")) return state(here.tracks.at(key.slice(0, -3), line.at, step));
  if (key !== "findings") return here.tracks.lane(key, line.at, here.first, here.last, step);
  const mine = wrong.get(here.tree.paths[line.at]) ?? [];
  return marks(mine, line.isOpen ? 0 : here.below[line.at] - mine.length);
}

function chosen(line) {
  const path = here.tree.path(line), facts = make("dl"), times = here.tree.times(line);
  for (const [flag, name] of Object.entries(FLAGS)) {
    const both = ends(flag, line.at);
    if (both.some((word) => word !== "–")) facts.append(make("dt", "", name), make("dd", "", arrow(both)));
  }
  for (const [lane, name] of [["weights", "weights"], ["stats", "running statistics"]]) {
    if (!here.tracks.track(lane, line.at)) continue;
    facts.append(make("dt", "", name), make("dd", "", state(here.tracks.at(lane, line.at, step))));
    facts.append(make("dt", "", ""), make("dd", "dim", here.tracks.told(lane, line.at)));
  }
  const about = [here.types[here.type[line.at]], times > 1 ? `${times} that did alike` : ""].filter(Boolean).join(" · ");
  document.getElementById("module").replaceChildren(
    make("h2", "path", path || here.tree.title(0)), make("p", "dim", about), make("p", "", `at step ${step.toLocaleString("en")}:`),
    facts, ...(wrong.get(here.tree.paths[line.at]) ?? []).map(told));
}

/** Choose a step; where the model was another one then, that one is shown. */
function go(to) {
  step = Math.max(1, Math.min(Math.round(to) || 1, Math.max(1, data.steps)));
  const chapter = chapters.findLast((one) => one.first <= step) ?? chapters[0], isOther = chapter !== here || chapter.tree.grid.hidden;
  here = chapter;
  if (isOther) {
    for (const one of chapters) one.tree.grid.hidden = one !== here;
    Object.assign(search, { tree: here.tree, aliases: here.aliases });
  }
  slider.value = number.value = step;
  slider.setAttribute("aria-valuetext", `step ${step} of ${data.steps}`);
  const kind = data.optimizers[data.taken[step - 1] ?? 0], outcome = data.outcomes[step] ?? "taken";
  document.getElementById("about").textContent = `of ${data.steps.toLocaleString("en")}${kind ? `, ${outcome} by ${kind}` : ""}`;
  if (isOther || search.buttons.some((button) => button.ariaPressed === "true")) search.apply();
  here.tree.fit();
  chosen(here.tree.lines[here.tree.active]);
}

/** Give the steps at which a track changes or a flag flips, in order. */
function changes() {
  const found = new Set(data.flips.map((flip) => flip.step));
  for (const { tracks } of chapters) {
    for (const track of tracks.all) for (let n = 3; n < track.length; n += 3) found.add(track[n]);
  }
  return [...found].filter((one) => one >= 1 && one <= data.steps).sort((one, other) => one - other);
}

function goTo({ step: at, modules }, chapter = chapters.at(-1)) {
  if (at !== null) go(at);
  const module = here.tree.paths.indexOf(chapter.tree.paths[modules[0]]);
  search.reveal(Math.max(0, module));
}

slider.max = number.max = Math.max(1, data.steps);
slider.addEventListener("input", () => go(slider.valueAsNumber));
number.addEventListener("change", () => go(number.valueAsNumber));
const changed = changes();
document.getElementById("before").addEventListener("click", () => go(changed.findLast((one) => one < step) ?? 1));
document.getElementById("after").addEventListener("click", () => go(changed.find((one) => one > step) ?? data.steps));
document.addEventListener("keydown", ({ key, target }) => {
  if ((key === "," || key === ".") && !target.closest("input")) go(step + (key === "." ? 1 : -1));
});
listed(data.findings, goTo);
for (const flip of data.flips) {
  const when = `${flip.within ? "in" : "before"} step ${flip.step.toLocaleString("en")}`;
  const button = make("button", "place", when);
  button.addEventListener("click", () => goTo(flip, chapters.findLast((one) => one.first <= flip.step) ?? chapters[0]));
  const what = `: ${flip.flag} ${flip.before} → ${flip.after} in ${flip.where}${flip.times > 1 ? ` ×${flip.times}` : ""}`;
  document.getElementById("flips").append(make("p", "finding", button, what, ...(flip.call ? [", by ", make("code", "", flip.call)] : [])));
}

for (const { tree, tracks } of chapters) {
  tree.openFirst((at) => !at || ["training", "requires_grad", "weights", "stats"].some((lane) => {
    for (let i = at + 1; i < tree.ends[at]; i++) {
      const track = tracks.below[lane][i];
      if (track >= 0 && track !== tracks.below[lane][at]) return true;
    }
    return false;
  }));
}
go(data.findings.find((finding) => finding.step)?.step ?? changed[0] ?? 1);
