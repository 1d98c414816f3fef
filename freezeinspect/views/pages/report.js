// The state of one model: its modules, what is known of each, and what is wrong with it.

const data = JSON.parse(document.getElementById("data").textContent);
const PARTS = { requires_grad: "weights", group: "weights", weights: "weights", stats: "stats", norm: "stats" };
const MEANINGS = {
  mode: {
    train: "train: model.train() was called last", eval: "eval: model.eval() was called last",
  },
  requires_grad: {
    yes: "yes: autograd gives them a gradient", no: "no: autograd gives them none",
    mixed: "mixed: some do, some do not", "–": "– has no parameters",
  },
  weights: {
    move: "move: the next optimizer.step() can move them", still: "still: no optimizer.step() moves them",
    mixed: "mixed: a step can move some of them", "–": "– has none",
  },
  stats: {
    move: "move: the next forward() moves them", still: "still: no forward() moves them",
    mixed: "mixed: the next forward() moves some of them", "–": "– has none",
  },
  norm: {
    batch: "batch: normalises with the statistics of the batch", running: "running: normalises with running statistics",
    sample: "sample: normalises each sample by itself",
  },
};
const UNKNOWN = "? unknown: this source does not tell";
const NAMES = {
  params: "parameters", shape: "output shape", mult_adds: "multiply-adds", mode: "mode", trainable: "trainable",
  bn_freeze: "bn_freeze", requires_grad: "requires_grad", group: "optimizer group", weights: "weights",
  stats: "running statistics", norm: "normalises with",
};

const fact = (i, key) => data.kinds[data.kind[i]][data.keys.indexOf(key)];
const findingsOf = data.names.map(() => []);
data.findings.forEach((finding, n) => finding.modules.forEach((i) => findingsOf[i].push(n)));

const tree = new Tree(document.querySelector(".tree"), data, columns(), cell, chosen);
tree.title = (i) => fact(i, "type") || (i ? "" : "(root)");
const wrong = accumulated(findingsOf.map((some) => some.length), tree.parents);
const moving = (i) => ["move", "mixed"].includes(fact(i, "stats"));
const search = new Search(tree, (i) => data.tensors[data.own[i]].map((tensor) => tensor[0]), data.aliases, {
  frozen: (i) => fact(i, "requires_grad") === "no",
  trainable: (i) => fact(i, "requires_grad") === "yes",
  mixed: (i) => fact(i, "requires_grad") === "mixed",
  stats: moving,
  findings: (i) => findingsOf[i].length > 0,
});

function columns() {
  const found = data.columns.map(([key, head, width, keep]) => ({
    key,
    head,
    width,
    keep,
    part: PARTS[key],
    align: ["params", "mult_adds"].includes(key) ? "right" : "",
    group: { weights: "weights, by step()", stats: "statistics, by forward()" }[PARTS[key]] ??
      (["mode", "trainable", "bn_freeze"].includes(key) ? "flags" : "size"),
  }));
  if (data.findings.length) found.push({ key: "findings", head: "rule", width: 108, keep: 8, group: "findings" });
  return found;
}

function cell(key, line) {
  if (key === "findings") {
    const mine = findingsOf[line.at].map((n) => data.findings[n]);
    return marks(mine, line.isOpen ? 0 : wrong[line.at] - mine.length);
  }
  const word = fact(line.at, key);
  return key === "weights" || key === "stats" ? state(word) : word;
}

// what is known of the module that the reader is at

function chosen(line) {
  const path = tree.path(line), times = tree.times(line);
  const pane = document.getElementById("module");
  const title = make("h2", "path", path || tree.title(0));
  const type = make("p", "dim", [data.types[data.type[line.at]], times > 1 ? `${times} alike; numbers are those of each` : ""].filter(Boolean).join(" · "));
  const facts = make("dl");
  for (const key of data.keys.slice(1)) {
    const word = fact(line.at, key);
    if (word === "" || (["trainable", "bn_freeze", "group"].includes(key) && !data.columns.some(([one]) => one === key))) continue;
    facts.append(make("dt", PARTS[key] ?? "", NAMES[key]), make("dd", PARTS[key] ?? "", MEANINGS[key]?.[word] ?? (word === "?" ? UNKNOWN : word)));
  }
  const aliases = times === 1 && data.aliases[line.at];
  if (aliases) facts.append(make("dt", "", "also at"), make("dd", "", aliases.join(", ")));
  const mine = findingsOf[line.at].map((n) => told(data.findings[n]));
  pane.replaceChildren(title, type, ...mine, facts, ...tensors(line.at));
  if (path && location.protocol !== "about:" && pane.dataset.isReady) history.replaceState(null, "", `#${encodeURIComponent(tree.paths[line.at])}`);
  pane.dataset.isReady = "yes";
}

function breaking(name) {
  return name.split(/(?<=_)/).flatMap((part, i) => (i ? [make("wbr"), part] : [part]));
}

function tensors(at) {
  const own = data.tensors[data.own[at]];
  if (!own.length) return [];
  const heads = ["tensor", "shape", "type", "requires_grad", "next"];
  const head = make("tr", "", ...heads.map((text) => Object.assign(make("th", "", ...breaking(text)), { scope: "col" })));
  const rows = own.map(([name, kind, shape, type, required, moves]) =>
    make("tr", "", ...[name, shape, type, required].map((text) => make("td", "", ...breaking(text))), make("td", "", kind === "buffer" ? "buffer" : state(moves))));
  return [make("table", "", make("thead", "", head), make("tbody", "", ...rows))];
}

listed(data.findings, (finding) => search.reveal(finding.modules[0]));
tree.openFirst();
tree.refresh();
tree.fit();

function linked() {
  const at = tree.paths.indexOf(decodeURIComponent(location.hash.slice(1)));
  if (location.hash && at > 0) search.reveal(at);
}
window.addEventListener("hashchange", linked);
linked();
