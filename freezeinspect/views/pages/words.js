// States and findings, as every page writes them: a sign beside each colour.

const SIGNS = { move: "●", still: "○", mixed: "◐", odd: "◆" };
const KINDS = { move: "move", moved: "move", still: "still", mixed: "mixed", "?": "unknown", "–": "none" };
const kindOf = (word) => KINDS[word] ?? (word.startsWith("moved") ? "odd" : "");

/** Write a state with its sign. */
function state(word) {
  const kind = kindOf(word), sign = make("span", "sign", SIGNS[kind] ?? "");
  sign.setAttribute("aria-hidden", "true");
  return make("span", `state ${kind}`, ...(kind in SIGNS ? [sign] : []), word);
}

/** Write what is wrong with a line in a word; of a closed one, how much is below it. */
function marks(mine, below) {
  if (!mine.length) return below ? make("span", "dim", `${below} below`) : "";
  const more = mine.length > 1 ? ` +${mine.length - 1}` : "";
  return make("span", `mark ${mine[0].severity}`, `${mine[0].code}${more}`);
}

function told(finding) {
  const mark = make("span", `mark ${finding.severity}`, `${finding.code} ${finding.severity}`);
  const box = make("div", "finding", make("p", "", mark, ` ${finding.name}`), make("p", "", finding.message + finding.when));
  if (finding.fix) box.append(make("pre", "", finding.fix));
  return box;
}

/** List all findings; `go` is called with the one that was chosen. */
function listed(findings, go) {
  for (const finding of findings) {
    const button = make("button", "place", `${finding.where}${finding.times > 1 ? ` ×${finding.times}` : ""}`);
    button.addEventListener("click", () => go(finding));
    const box = told(finding);
    box.firstElementChild.after(button);
    document.getElementById("findings").append(box);
  }
}
