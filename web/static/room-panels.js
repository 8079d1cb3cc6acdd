/** The console's panels: poll, ballot, roll-call, sites, order, questions, films, doors. One is open. */

import { AskPanel, VotePanel } from "./room-askpanel.js";
import { DoorsPanel, FilmPanel } from "./room-filmpanel.js";
import { OrderPanel, RollPanel, SayingsPanel, SitesPanel } from "./room-sitepanel.js";
import { byId } from "./page.js";

const KEYS = { q: "poll", b: "ballot", r: "roll", g: "sites", o: "order", c: "chat", v: "film", k: "doors" };

export class Panels {
  #parts;
  #open = "poll";

  constructor(desk, client, preview) {
    this.#parts = {
      poll: new AskPanel(desk), ballot: new VotePanel(desk, client), roll: new RollPanel(desk, client),
      sites: new SitesPanel(desk, client, preview), order: new OrderPanel(desk, client),
      chat: new SayingsPanel(desk, client), film: new FilmPanel(desk, preview), doors: new DoorsPanel(desk),
    };
    for (const name of Object.keys(this.#parts)) {
      byId(`tab-${name}`).addEventListener("click", () => this.open(name));
    }
    byId("tab-poll").parentElement.addEventListener("keydown", (event) => this.#move(event));
    this.open("poll");
  }

  /** What a key does: a panel's letter opens it, and what it does itself while it is open. */
  get keys() {
    const opens = Object.entries(KEYS).map(([key, name]) => [key, () => {
      this.open(name);
      byId(`tab-${name}`).focus();
    }]);
    return { ...Object.fromEntries(opens), ...this.#parts.roll.keys, ...this.#parts.sites.keys, ...this.#parts.order.keys };
  }

  /** The sites whose small pictures are shown here. */
  get wanted() {
    return this.#open === "sites" ? this.#parts.sites.wanted : [];
  }

  open(name) {
    this.#open = name;
    for (const one of Object.keys(this.#parts)) {
      const isOpen = one === name;
      byId(`panel-${one}`).hidden = !isOpen;
      byId(`tab-${one}`).setAttribute("aria-selected", String(isOpen));
      byId(`tab-${one}`).tabIndex = isOpen ? 0 : -1;
    }
    this.#parts.sites.isShown = name === "sites";
    this.#parts[name].opened?.();
    this.draw();
  }

  #move(event) {
    const names = Object.keys(this.#parts);
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const next = names[(names.indexOf(this.#open) + by + names.length) % names.length];
    this.open(next);
    byId(`tab-${next}`).focus();
  }

  draw() {
    for (const part of Object.values(this.#parts)) part.draw();
  }

  /** Once a second. */
  tick() {
    for (const part of Object.values(this.#parts)) part.tick?.();
  }
}
