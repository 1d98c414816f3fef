// A treegrid of modules: equal siblings on one line, and only the lines that are in view as elements.

const OVERSCAN = 10; // lines
const PRINTED = 5000; // lines
const FIRST_OPEN = 60; // lines that are there at the start, if the tree has as many

/** Make an element; text stays text, whatever is in it. */
function make(tag, name = "", ...inside) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...inside);
  return element;
}

const accumulated = (own, parents) => {
  const total = Int32Array.from(own);
  for (let i = total.length - 1; i > 0; i--) total[parents[i]] += total[i];
  return total;
};

class Tree {
  /** `modules` has names, depths and `same` (equal where subtrees agree), in pre-order; `cell(key, line)` gives a
   * column's element, `chosen(line)` is called for the line that the reader is at. */
  constructor(grid, modules, columns, cell, chosen) {
    Object.assign(this, modules, { grid, columns, cell, chosen });
    this.size = this.names.length;
    this.shown = null;
    this.ids = this.same;
    this.folds = true;
    this.open = new Set();
    this.closed = new Set(); // while a filter is on, all else is open
    this.loose = new Set(); // groups of equal siblings that are shown one by one
    this.lines = [];
    this.active = 0;
    this._span();
    this.head = make("div", "head");
    this.rows = make("div", "rows");
    for (const part of [this.head, this.rows]) part.setAttribute("role", "rowgroup");
    grid.append(this.head, this.rows);
    this._listen();
  }

  _span() {
    this.parents = new Int32Array(this.size);
    this.ends = new Int32Array(this.size);
    const above = [];
    for (let i = 0; i < this.size; i++) {
      while (above.length > this.depths[i]) this.ends[above.pop()] = i;
      this.parents[i] = above.at(-1) ?? -1;
      above.push(i);
    }
    while (above.length) this.ends[above.pop()] = this.size;
  }

  /** Give the path of every module. */
  get paths() {
    this._paths ??= this.names.reduce((paths, name, i) => {
      const above = i ? paths[this.parents[i]] : "";
      paths.push(above ? `${above}.${name}` : name);
      return paths;
    }, []);
    return this._paths;
  }

  /** Show some modules and those that hold them, or all. */
  filter(kept) {
    this.shown = kept && Uint8Array.from(accumulated(kept, this.parents), (count) => (count ? 1 : 0));
    this.ids = this.shown ? this._agreeing() : this.same;
    this.closed.clear();
    this.refresh();
    this.grid.scrollTop = 0;
  }

  /** Number the modules so that two have the same number where the subtrees that are shown agree. */
  _agreeing() {
    const known = new Map(), ids = new Int32Array(this.size), below = new Array(this.size).fill("");
    for (let i = this.size - 1; i >= 0; i--) {
      const key = `${this.same[i]} ${this.shown[i]} ${below[i]}`;
      if (!known.has(key)) known.set(key, known.size);
      ids[i] = known.get(key);
      if (i) below[this.parents[i]] = `${ids[i]},${below[this.parents[i]]}`;
      below[i] = "";
    }
    return ids;
  }

  /** Give the children that are shown, equal ones together. */
  groups(at) {
    const found = new Map();
    for (let child = at + 1; child < this.ends[at]; child = this.ends[child]) {
      if (this.shown && !this.shown[child]) continue;
      const alone = !this.folds || this.loose.has(`${at} ${this.same[child]}`);
      const key = alone ? -child : this.ids[child];
      if (!found.has(key)) found.set(key, []);
      found.get(key).push(child);
    }
    return [...found.values()];
  }

  isOpen(at) {
    return this.shown ? !this.closed.has(at) : this.open.has(at);
  }

  /** Lay the lines out again; the reader stays where they are, or as near as can be. */
  refresh() {
    const before = this.lines[this.active];
    this.lines = [];
    const stack = [{ at: 0, members: [0], depth: 0, up: null, size: 1, position: 1 }];
    while (stack.length) {
      const line = stack.pop();
      const groups = this.ends[line.at] > line.at + 1 ? this.groups(line.at) : [];
      line.index = this.lines.length;
      line.isOpen = groups.length ? this.isOpen(line.at) : null;
      this.lines.push(line);
      for (let n = groups.length; line.isOpen && n > 0; n--) {
        const members = groups[n - 1];
        stack.push({ at: members[0], members, depth: line.depth + 1, up: line, size: groups.length, position: n });
      }
    }
    this._at = new Map(this.lines.map((line) => [line.at, line.index]));
    let at = before ? before.at : 0;
    while (at > 0 && !this._at.has(at)) at = this.parents[at];
    this.active = this._at.get(at) ?? 0;
    this.draw(true);
    this.chosen(this.lines[this.active]);
  }

  /** Open level by level, for as long as few enough lines come of it. */
  openFirst(isWorthIt = () => true) {
    let level = [0], count = 1;
    while (level.length) {
      const next = [];
      for (const at of level.filter(isWorthIt)) {
        const groups = this.groups(at);
        if (count + groups.length > FIRST_OPEN && at) continue;
        count += groups.length;
        this.open.add(at);
        next.push(...groups.map((group) => group[0]));
      }
      level = next;
    }
  }

  openAll(isOpen) {
    this.closed.clear();
    this.open.clear();
    for (let i = 0; i < this.size; i++) if (this.ends[i] > i + 1) (isOpen ? this.open : this.closed).add(i);
    if (!isOpen) this.open.add(0), this.closed.delete(0);
    this.refresh();
  }

  toggle(line) {
    if (!line || line.isOpen === null) return;
    const set = this.shown ? this.closed : this.open;
    if (!set.delete(line.at)) set.add(line.at);
    this.refresh();
  }

  /** Show equal siblings one by one, or as one line again. */
  unfold(line) {
    if (!line.up) return;
    const key = `${line.up.at} ${this.same[line.at]}`;
    if (this.loose.delete(key) || line.members.length > 1) {
      if (line.members.length > 1) this.loose.add(key);
      this.refresh();
    }
  }

  isLoose(line) {
    return Boolean(line.up) && this.loose.has(`${line.up.at} ${this.same[line.at]}`);
  }

  /** Give the line of a module: of equal ones that are folded, the line that stands for it. */
  lineOf(target) {
    const chain = [];
    for (let i = target; i > 0; i = this.parents[i]) chain.push(i);
    let here = 0, shift = 0;
    for (const next of chain.reverse()) {
      (this.shown ? this.closed : this.open)[this.shown ? "delete" : "add"](here);
      const group = this.groups(here).find((members) => members.includes(next - shift));
      if (!group) return here;
      shift = next - group[0];
      here = group[0];
    }
    return here;
  }

  reveal(target) {
    const at = this.lineOf(target);
    this.refresh();
    this.activate(this._at.get(at) ?? 0);
  }

  activate(index) {
    this.active = Math.max(0, Math.min(index, this.lines.length - 1));
    const top = this.active * this.height, room = this.grid.clientHeight - this.head.offsetHeight;
    if (top < this.grid.scrollTop) this.grid.scrollTop = top;
    else if (top + this.height > this.grid.scrollTop + room) this.grid.scrollTop = top + this.height - room;
    this.draw(true);
    this.chosen(this.lines[this.active]);
  }

  label(line) {
    line.label ??= line.members.length > 1 ? joined(line.members.map((i) => this.names[i])) : this.names[line.at];
    return line.label;
  }

  /** Give the path of a line, or where it stands for several, their pattern. */
  path(line) {
    const names = [];
    let isPattern = false;
    for (let one = line; one.up; one = one.up) isPattern ||= one.members.length > 1;
    for (let one = line; one.up; one = one.up) {
      names.push(isPattern && one.members.length === 1 ? escaped(this.label(one)) : this.label(one));
    }
    return names.reverse().join(".");
  }

  /** Count the modules that a line stands for. */
  times(line) {
    let count = 1;
    for (let one = line; one; one = one.up) count *= one.members.length;
    return count;
  }

  // what is drawn

  /** Choose the columns that fit, by what may give way first, and write their headings. */
  fit() {
    const width = this.isPrinting ? 700 : this.grid.clientWidth;
    const least = Math.min(260, width * 0.42);
    this.seen = [...this.columns];
    const total = () => this.seen.reduce((sum, column) => sum + column.width, least);
    for (const least of this.columns.map(({ keep }) => keep).sort((one, other) => one - other)) {
      if (total() > width) this.seen = this.seen.filter(({ keep }) => keep !== least);
    }
    const sizes = this.seen.map(({ width, grows }) => (grows ? `minmax(${width}px, ${grows}fr)` : `${width}px`));
    this.grid.style.setProperty("--columns", [`minmax(${least}px, 1fr)`, ...sizes].join(" "));
    this._headings();
    this.draw(true);
  }

  _headings() {
    const tops = [make("div", "", "module")], heads = [make("div", "", "name")];
    let group = "";
    for (const column of this.seen) {
      if (column.group === group) tops.at(-1).span += 1;
      else tops.push(Object.assign(make("div", column.part ?? "", column.group), { span: 1 }));
      group = column.group;
      const head = typeof column.head === "function" ? column.head() : column.head;
      heads.push(make("div", `${column.part ?? ""} ${column.align ?? ""}`, head));
    }
    for (const cell of [...tops, ...heads]) cell.setAttribute("role", "columnheader");
    for (const cell of tops.slice(1)) {
      cell.style.gridColumn = `span ${cell.span}`;
      cell.setAttribute("aria-colspan", cell.span);
      cell.title = cell.textContent;
    }
    this.head.replaceChildren(...[tops, heads].map((cells, n) => {
      const row = make("div", `row ${n ? "" : "groups"}`, ...cells);
      row.setAttribute("role", "row");
      row.setAttribute("aria-rowindex", n + 1);
      return row;
    }));
  }

  draw(isNew = false) {
    if (!this.seen || !this.lines.length) return;
    const room = this.isPrinting ? Infinity : this.grid.clientHeight;
    const height = this.height || 20; // until there is a line to measure
    const first = this.isPrinting ? 0 : Math.max(0, Math.floor(this.grid.scrollTop / height) - OVERSCAN);
    const end = Math.ceil((this.grid.scrollTop + room) / height) + OVERSCAN;
    const last = Math.min(this.lines.length, this.isPrinting ? PRINTED : end);
    if (!isNew && first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const before = isNew ? new Map() : this.elements; // by line: those that stay in view are left as they are
    this.elements = new Map(this.lines.slice(first, last).map((line) => [line, before.get(line) ?? this._row(line)]));
    if (isNew) this.rows.replaceChildren();
    for (const [line, row] of before) if (!this.elements.has(line)) row.remove();
    let next = this.rows.firstChild;
    for (const row of this.elements.values()) {
      if (row === next) next = next.nextSibling;
      else this.rows.insertBefore(row, next);
    }
    this.height ||= this.rows.firstElementChild.getBoundingClientRect().height;
    this.rows.style.paddingTop = `${first * this.height}px`;
    this.rows.style.height = this.isPrinting ? "auto" : `${this.lines.length * this.height}px`;
    this.grid.setAttribute("aria-rowcount", this.lines.length + 2);
    if (this.active >= first && this.active < last) {
      this.grid.setAttribute("aria-activedescendant", `line-${this.active}`);
    } else this.grid.removeAttribute("aria-activedescendant");
  }

  _row(line) {
    const row = make("div", "row", this._name(line));
    const said = {
      role: "row",
      id: `line-${line.index}`,
      "aria-level": line.depth + 1,
      "aria-setsize": line.size,
      "aria-posinset": line.position,
      "aria-rowindex": line.index + 3,
      "aria-selected": line.index === this.active,
    };
    if (line.isOpen !== null) said["aria-expanded"] = line.isOpen;
    for (const [name, value] of Object.entries(said)) row.setAttribute(name, value);
    for (const column of this.seen) {
      const cell = make("div", `${column.part ?? ""} ${column.align ?? ""}`, this.cell(column.key, line) ?? "");
      cell.setAttribute("role", "gridcell");
      row.append(cell);
    }
    return row;
  }

  _name(line) {
    const cell = make("div", "name");
    cell.setAttribute("role", "rowheader");
    cell.style.setProperty("--depth", Math.min(line.depth, 14));
    const twisty = make("span", "twisty", line.isOpen === null ? "" : line.isOpen ? "▾" : "▸");
    twisty.setAttribute("aria-hidden", "true");
    const label = make("span", "label");
    if (line.up?.up && /^[{[]?[0-9]/.test(this.label(line))) {
      label.append(make("span", "dim", `${this.label(line.up)}.`));
    }
    label.append(line.up ? this.label(line) : this.title(0));
    cell.title = line.up ? `${this.path(line)} ${this.title(line.at)}` : this.title(0);
    cell.append(twisty, label);
    if (line.members.length > 1 || this.isLoose(line)) {
      const chip = make("span", "chip", line.members.length > 1 ? `×${line.members.length}` : "fold");
      chip.title = line.members.length > 1 ? "equal: click, or press f, to show each" : "click, or press f, to fold";
      cell.append(chip);
    }
    const hidden = this.columns.filter((column) => column.group === "findings" && !this.seen.includes(column));
    cell.append(...hidden.map(({ key }) => this.cell(key, line)).filter(Boolean)); // their sign alone
    if (line.up) cell.append(make("span", "type", this.title(line.at)));
    return cell;
  }

  // what the reader does

  _listen() {
    let isDue = false;
    this.grid.addEventListener("scroll", () => {
      if (!isDue) requestAnimationFrame(() => ((isDue = false), this.draw()));
      isDue = true;
    }, { passive: true });
    this.grid.addEventListener("click", (event) => {
      const row = event.target.closest(".rows .row");
      if (!row) return;
      const line = this.lines[Number(row.id.slice(5))];
      this.activate(line.index);
      if (event.target.closest(".twisty")) this.toggle(line);
      if (event.target.closest(".chip")) this.unfold(line);
    });
    this.grid.addEventListener("dblclick", (event) => {
      if (event.target.closest(".rows .name") && !event.target.closest(".twisty, .chip")) {
        this.toggle(this.lines[this.active]);
      }
    });
    this.grid.addEventListener("keydown", (event) => {
      if (!event.ctrlKey && !event.metaKey && !event.altKey && this._pressed(event.key)) event.preventDefault();
    });
    new ResizeObserver(() => this.fit()).observe(this.grid);
    for (const [when, isPrinting] of [["beforeprint", true], ["afterprint", false]]) {
      window.addEventListener(when, () => {
        this.isPrinting = isPrinting;
        this.fit();
      });
    }
  }

  _pressed(key) {
    const line = this.lines[this.active], page = Math.max(1, Math.floor(this.grid.clientHeight / this.height) - 3);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (key in steps) this.activate(this.active + steps[key]);
    else if (key === "Enter" || key === " ") this.toggle(line);
    else if (key === "ArrowRight") line.isOpen ? this.activate(this.active + 1) : this.toggle(line);
    else if (key === "ArrowLeft") line.isOpen || !line.up ? this.toggle(line) : this.activate(line.up.index);
    else if (key === "f") this.unfold(line);
    else return false;
    return true;
  }
}
