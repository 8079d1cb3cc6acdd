/** A list to go up and down the tree of units with: those above, the one shown, those right below. */

import { all, ask, me } from "./centre.js";

const INDENT = "\u00a0\u00a0\u00a0";

/** The id at the end of a path such as "1/32/365/". */
export const idOf = (path) => Number(path.split("/").at(-2));

export class UnitChooser {
  #select;
  #tops;
  #changed;

  /**
   * @param {HTMLSelectElement} select
   * @param {string} action  that the person must be allowed on what is shown
   * @param {(unit: object) => void} changed
   */
  constructor(select, action, changed) {
    this.#select = select;
    this.#tops = me.may[action] ?? [];
    this.#changed = changed;
    select.addEventListener("change", () => this.go(Number(select.value)));
  }

  /** Show a unit; 0 for one's own, or the first that one may see. False if there is none. */
  async go(id) {
    const home = this.#tops[0];
    const wanted = id || (home ? idOf(home) : 0);
    if (!wanted) return false;
    const { status, body } = await ask(`/api/units/${wanted}/above`);
    if (status !== 200) return false;
    const unit = body.at(-1);
    const above = body.slice(0, -1).filter((one) => this.#tops.some((path) => one.path.startsWith(path)));
    const others = this.#tops.filter((path) => !unit.path.startsWith(path)).map(idOf);
    const below = await all(`/api/units?parent_id=${unit.id}`);
    const option = (one, depth) => new Option(INDENT.repeat(depth) + one.name, one.id);
    this.#select.replaceChildren(
      ...above.map(option), option(unit, above.length), ...below.map((one) => option(one, above.length + 1)));
    for (const other of others) {
      const found = await ask(`/api/units/${other}`);
      if (found.status === 200) this.#select.append(option(found.body, 0));
    }
    this.#select.value = String(unit.id);
    this.#changed(unit, below);
    return true;
  }
}
