// The toolbar above a tree: search by pattern, filters, folding, and what came of it.

class Search {
  /** `filters` maps a button's name to what it keeps; those of one kind add up, different kinds narrow down. */
  constructor(tree, tensorsOf, aliases, filters) {
    Object.assign(this, { tree, tensorsOf, aliases, filters });
    this.box = document.getElementById("search");
    this.said = document.getElementById("found");
    this.buttons = [...document.querySelectorAll("[data-filter]")];
    this.box.addEventListener("input", () => this.apply());
    for (const button of this.buttons) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
        this.apply();
      });
    }
    document.getElementById("fold").addEventListener("change", (event) => {
      this.tree.folds = event.target.checked;
      this.tree.refresh();
    });
    document.getElementById("open").addEventListener("click", () => this.tree.openAll(true));
    document.getElementById("close").addEventListener("click", () => this.tree.openAll(false));
    document.addEventListener("keydown", (event) => this._pressed(event));
  }

  _pressed(event) {
    if (event.key === "/" && !event.target.closest("input")) {
      event.preventDefault();
      this.box.focus();
      this.box.select();
    } else if (event.key === "Escape") {
      this.clear();
      this.tree.grid.focus();
    } else if (event.key === "Enter" && event.target === this.box) this.tree.grid.focus();
  }

  clear() {
    this.box.value = "";
    for (const button of this.buttons) button.setAttribute("aria-pressed", "false");
    this.apply();
  }

  /** Go to a module; a filter that hides it is taken off. */
  reveal(module) {
    if (this.tree.shown && !this.tree.shown[module]) this.clear();
    this.tree.reveal(module);
    this.tree.grid.focus();
  }

  apply() {
    const kept = this._filtered(), text = this.box.value.trim();
    let said = "";
    try {
      said = text ? this._matched(kept, text) : "";
      this.box.removeAttribute("aria-invalid");
    } catch (error) {
      if (!(error instanceof BadPattern || error instanceof SyntaxError)) throw error;
      this.box.setAttribute("aria-invalid", "true");
      this.said.textContent = error.message;
      return;
    }
    const isOn = text || this.buttons.some((button) => button.getAttribute("aria-pressed") === "true");
    this.tree.filter(isOn ? kept : null);
    const count = kept.reduce((sum, one) => sum + one, 0);
    this.said.textContent = isOn ? `${count.toLocaleString("en")} of ${this.tree.size.toLocaleString("en")} modules${said}` : "";
  }

  _filtered() {
    const kinds = new Map();
    for (const { dataset, ...button } of this.buttons.map((one) => ({ dataset: one.dataset, on: one.ariaPressed }))) {
      if (button.on === "true") kinds.set(dataset.kind, [...(kinds.get(dataset.kind) ?? []), this.filters[dataset.filter]]);
    }
    const all = [...kinds.values()];
    return Uint8Array.from({ length: this.tree.size }, (_, i) =>
      all.every((some) => some.some((keeps) => keeps(i))) ? 1 : 0);
  }

  /** Take out of `kept` what a pattern does not match; a plain word that is no path is looked for in all names. */
  _matched(kept, text) {
    if (this._keep(kept, pattern(text))) return "";
    if (/[*?[\]{}]/.test(text)) return ": the pattern matches nothing";
    const again = this._filtered(), word = text.toLowerCase();
    const count = this._keep(again, (path) => path.toLowerCase().includes(word));
    kept.set(again);
    return count ? `: nothing is at ${text}, but so many names contain it` : ": no name contains it";
  }

  _keep(kept, matches) {
    let count = 0;
    for (let i = 0; i < kept.length; i++) {
      kept[i] &&= this._isMatched(i, matches) ? 1 : 0;
      count += kept[i];
    }
    return count;
  }

  _isMatched(i, matches) {
    const paths = [this.tree.paths[i], ...(this.aliases[i] ?? [])];
    return paths.some((path) => {
      if (matches(path)) return true;
      return this.tensorsOf(i).some((name) => matches(path ? `${path}.${name}` : name));
    });
  }
}
