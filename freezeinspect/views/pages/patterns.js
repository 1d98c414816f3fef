// The glob grammar of freezeinspect/patterns.py, the same to the letter: `*`, `**`, `?`, `[ab]`, `[0-23]`, `{a,b}`.

class BadPattern extends Error {}

const SPECIAL = /[\\^$.*+?()[\]{}|/]/;
const literal = (character) => (SPECIAL.test(character) ? "\\" + character : character);
const inClass = (character) => (/[\\\]^-]/.test(character) ? "\\" + character : character);

/** Give a function that tells whether a dotted path, or a module that holds it, is matched; the root's is by `**` alone. */
function pattern(text) {
  const named = `^(?=.)(?:${translated([...text])})(?:\\..*)?$`;
  const compiled = new RegExp(text === "**" ? "" : named, "su");
  return (path) => compiled.test(path);
}

function translated(text) {
  let out = "", depth = 0, i = 0;
  const follows = (some) => text.slice(i, i + some.length).join("") === some;
  const startsName = () => i === 0 || ".{,".includes(text[i - 1]);
  const endsName = (at) => at === text.length || ",}".includes(text[at]);
  while (i < text.length) {
    const here = text[i];
    if (follows("**.") && startsName()) {
      out += "(?:[^.]+\\.)*";
      i += 3;
    } else if (follows(".**") && endsName(i + 3)) {
      out += "\\..+";
      i += 3;
    } else if (follows("**")) {
      if (!(startsName() && endsName(i + 2))) {
        throw new BadPattern("`**` stands for whole names: write it between dots, as in '**.bias'");
      }
      out += ".*";
      i += 2;
    } else if (here === "[") {
      const [piece, end] = bracket(text, i);
      out += piece;
      i = end;
    } else if (here === "{") {
      out += "(?:";
      depth += 1;
      i += 1;
    } else if ((here === "," || here === "}") && depth) {
      out += here === "," ? "|" : ")";
      depth -= here === "}" ? 1 : 0;
      i += 1;
    } else {
      out += { "*": "[^.]*", "?": "[^.]" }[here] ?? literal(here);
      i += 1;
    }
  }
  if (depth) throw new BadPattern("a '{' is not closed; write '[{]' for the character itself");
  return out;
}

function bracket(text, start) {
  const numbers = /^\[([0-9]+)-([0-9]+)\]/.exec(text.slice(start).join(""));
  if (numbers) {
    const [whole, low, high] = numbers;
    if (BigInt(low) > BigInt(high)) throw new BadPattern(`${whole} runs backwards: write the lower end first`);
    if (Math.max(low.length, high.length) > 1) {
      return [`(?<![0-9])${between(BigInt(low), BigInt(high))}(?![0-9])`, start + whole.length];
    }
  }
  const end = text.indexOf("]", start + 2);
  if (end < 0) throw new BadPattern("a '[' is not closed; write '[[]' for the character itself");
  const inside = text.slice(start + 1, end);
  const negated = inside[0] === "!" && inside.length > 1;
  return [`[${negated ? "^." : ""}${members(negated ? inside.slice(1) : inside)}]`, end + 1];
}

function members(some) {
  let out = "", i = 0;
  while (i < some.length) {
    const last = some[i + 1] === "-" ? some[i + 2] : undefined;
    if (last !== undefined && last.codePointAt(0) < some[i].codePointAt(0)) {
      throw new BadPattern(`[${some.join("")}] runs backwards: write the lower end first`);
    }
    out += inClass(some[i]) + (last === undefined ? "" : "-" + inClass(last));
    i += last === undefined ? 1 : 3;
  }
  return out;
}

/** Give a regular expression for the whole numbers from low to high. */
function between(low, high) {
  const found = [];
  for (let length = String(low).length; length <= String(high).length; length++) {
    const least = length > 1 ? 10n ** BigInt(length - 1) : 0n, most = 10n ** BigInt(length) - 1n;
    found.push(digits(String(low > least ? low : least), String(high < most ? high : most)));
  }
  return `(?:${found.join("|")})`;
}

function digits(low, high) {
  if (low === high) return low;
  if (low.length === 1) return `[${low}-${high}]`;
  const rest = low.length - 1;
  if (low[0] === high[0]) return low[0] + digits(low.slice(1), high.slice(1));
  const ends = [low[0] + digits(low.slice(1), "9".repeat(rest))];
  if (high[0] - low[0] > 1) ends.push(`[${+low[0] + 1}-${+high[0] - 1}]` + "[0-9]".repeat(rest));
  ends.push(high[0] + digits("0".repeat(rest), high.slice(1)));
  return `(?:${ends.join("|")})`;
}

const escaped = (name) => name.replace(/[*?[{},]/g, "[$&]");

/** Write names as one pattern that matches them and no other, as folding.joined does. */
function joined(names) {
  const runs = [];
  for (const name of names) {
    const run = runs.at(-1);
    if (run && follows(run.at(-1), name)) run.push(name);
    else runs.push([name]);
  }
  const written = runs.map((run) => {
    if (run.length === 1) return escaped(run[0]);
    const prefix = run[0].replace(/[0-9]+$/, "");
    return `${escaped(prefix)}[${run[0].slice(prefix.length)}-${run.at(-1).slice(prefix.length)}]`;
  });
  return written.length === 1 ? written[0] : `{${written.join(",")}}`;
}

const NUMBERED = /^(.*[^0-9]|)(0|[1-9][0-9]*)$/s;

function follows(before, name) {
  const first = NUMBERED.exec(before), second = NUMBERED.exec(name);
  return Boolean(first && second && first[1] === second[1] && BigInt(second[2]) === BigInt(first[2]) + 1n);
}
