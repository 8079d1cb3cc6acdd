/** The tree of units with boxes to tick: who is asked to attend. Branches are asked for when opened. */

import { all } from "./centre.js";
import { html } from "./drawing.js";
import { t } from "./page.js";

/**
 * @param {HTMLElement} place  an empty list
 * @param {() => void} changed
 */
export class UnitPicker {
  #place;
  #changed;
  #chosen = new Map(); // unit id -> name
  #others = []; // entries of the audience that are no subtree, kept as they are

  constructor(place, changed) {
    this.#place = place;
    this.#changed = changed;
  }

  /** Show the tops, with an audience ticked. */
  async open(audience) {
    this.#others = audience.filter(({ kind }) => kind !== "subtree");
    for (const { kind, id } of audience) if (kind === "subtree") this.#chosen.set(id, "");
    const tops = await all("/api/units");
    this.#place.replaceChildren(...tops.map((unit) => this.#branch(unit)));
    if (tops.length === 1) this.#place.querySelector("details")?.setAttribute("open", "");
  }

  /** The audience as the API wants it. */
  get audience() {
    return [...this.#others, ...[...this.#chosen.keys()].map((id) => ({ kind: "subtree", id }))];
  }

  /** Take a unit out. */
  without(id) {
    this.#chosen.delete(id);
    const box = this.#place.querySelector(`input[value="${id}"]`);
    if (box) box.checked = false;
    this.#changed();
  }

  has(id) {
    return this.#chosen.has(id);
  }

  #branch(unit) {
    const box = html("input");
    Object.assign(box, { type: "checkbox", value: String(unit.id), checked: this.#chosen.has(unit.id) });
    box.addEventListener("change", () => {
      if (box.checked) this.#chosen.set(unit.id, unit.name);
      else this.#chosen.delete(unit.id);
      this.#changed();
    });
    const label = html("label", "tick", "", box, html("span", "", unit.name),
      html("small", "", tierWord(unit.tier)));
    const below = html("details", "branch");
    const summary = html("summary", "", "", html("span", "sr-only", t("centre.all.below", { name: unit.name })));
    const list = html("ul", "branches");
    below.append(summary, list);
    below.addEventListener("toggle", async () => {
      if (!below.open || list.dataset.asked) return;
      list.dataset.asked = "true";
      const children = await all(`/api/units?parent_id=${unit.id}`);
      list.replaceChildren(...(children.length ? children.map((one) => this.#branch(one))
        : [html("li", "hint", t("centre.all.nobelow"))]));
    });
    return html("li", "unit", "", label, below);
  }
}

/** The word for a unit's tier; one that is not ours as it is. */
export function tierWord(tier) {
  const known = t(`tier.${tier}`);
  return known === `tier.${tier}` ? tier : known;
}
