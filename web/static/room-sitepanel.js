/** Panels about sites: the roll-call, the wall and the line tests, the order, what they write. */

import { chip, html, icon, replaceIfChanged } from "./drawing.js";
import { Wall } from "./room-media.js";
import { sourceName, timeWords } from "./room-parts.js";
import { siteSource, streamOf } from "./room-view.js";
import { byId, number, setText, stream as room, t } from "./page.js";

const PRESENCES = { present: ["live", "ready"], absent: ["lost", "x"], leave: ["waiting", "pause"] };
const ON_WALL = 6;
const TURN_EVERY_S = 8;

function button(className, symbol, words, act) {
  const made = html("button", className, "", icon(symbol), html("span", "", words));
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export class RollPanel {
  #desk;
  #client;

  constructor(desk, client) {
    this.#desk = desk;
    this.#client = client;
    byId("roll-start").addEventListener("click", async () => {
      const { isDone } = await desk.tell("POST", "rollcall", { unit_ids: [] });
      if (isDone) this.#next();
    });
    for (const presence of Object.keys(PRESENCES)) byId(`roll-${presence}`).addEventListener("click", () => this.#mark(presence));
    byId("roll-next").addEventListener("click", () => this.#next());
    byId("roll-end").addEventListener("click", () => desk.tell("DELETE", "rollcall"));
  }

  get keys() {
    const when = (act) => () => this.#client.state.rollcall && act();
    return { y: when(() => this.#mark("present")), n: when(() => this.#mark("absent")), j: when(() => this.#next()) };
  }

  #next() {
    this.#desk.tell("POST", "rollcall/next");
  }

  async #mark(presence) {
    const { rollcall } = this.#client.state;
    if (rollcall?.site) await this.#desk.tell("PUT", `rollcall/${rollcall.site}`, { presence });
  }

  draw() {
    const { rollcall } = this.#client.state;
    byId("roll-now").hidden = !rollcall;
    byId("roll-start").hidden = Boolean(rollcall);
    if (rollcall) {
      const isAtOne = Boolean(rollcall.site);
      setText(byId("roll-count"), t("room.console.roll.count", { done: number(rollcall.done), total: number(rollcall.total) }));
      setText(byId("roll-name"), isAtOne ? [rollcall.unit, rollcall.name].filter((one, at, all) => one && all.indexOf(one) === at).join(" · ") : t("room.console.roll.all"));
      for (const presence of Object.keys(PRESENCES)) byId(`roll-${presence}`).disabled = !isAtOne;
      byId("roll-next").disabled = !isAtOne && rollcall.done >= rollcall.total;
    }
    const marks = this.#desk.told?.marks ?? [];
    replaceIfChanged(byId("marks"), JSON.stringify(marks), () => marks.map((one) => {
      const [tone, symbol] = PRESENCES[one.presence] ?? ["calm", "info"];
      const people = one.people ? t("room.console.roll.people", { n: number(one.people) }) : "";
      return html("li", "", "", html("span", "row-title", one.name), html("span", "hint", [one.by_site ? t("room.console.roll.itself") : "", people].filter(Boolean).join(" · ")), chip(tone, symbol, t(`room.presence.${one.presence}`)));
    }));
  }
}

export class SitesPanel {
  isShown = false;

  #desk;
  #client;
  #preview;
  #wall;
  #isTurning = false;
  #at = 0;
  #seconds = 0;

  constructor(desk, client, preview) {
    this.#desk = desk;
    this.#client = client;
    this.#preview = preview;
    this.#wall = new Wall(byId("wall"), (source, frame) => {
      const made = html("button", "tile", "", frame, html("span", "tile-name"));
      made.type = "button";
      made.addEventListener("click", () => preview(source));
      return made;
    });
    byId("patrol").addEventListener("click", () => this.#turn());
    byId("ask-test").addEventListener("click", () => desk.tell("POST", "linetest"));
  }

  get keys() {
    return { w: () => this.isShown && this.#turn() };
  }

  #turn() {
    this.#isTurning = !this.#isTurning;
    this.#seconds = 0;
    this.draw();
  }

  #sites() {
    return this.#desk.told?.sites ?? [];
  }

  /** The sources on the wall now: a page of those who are there, the next one every few seconds. */
  get wanted() {
    if (!this.#isTurning) return [];
    const all = this.#sites().filter(({ camera }) => camera !== false).map(({ source }) => source);
    const start = all.length ? this.#at % all.length : 0;
    return [...all.slice(start), ...all.slice(0, start)].slice(0, ON_WALL);
  }

  tick() {
    if (!this.#isTurning || !this.isShown) return;
    this.#seconds += 1;
    if (this.#seconds % TURN_EVERY_S === 0 && this.#sites().length > ON_WALL) this.#at += ON_WALL;
  }

  draw() {
    const wanted = this.isShown ? this.wanted : [];
    byId("wall").hidden = wanted.length === 0;
    this.#wall.show(wanted.map((source) => ({ key: source, stream: streamOf(room, source) })));
    for (const source of wanted) {
      const one = this.#sites().find((site) => site.source === source);
      setText(this.#wall.tile(source).lastElementChild, one?.name ?? sourceName(this.#client.state, source));
    }
    byId("patrol").setAttribute("aria-pressed", String(this.#isTurning));
    setText(byId("patrol-word"), t(this.#isTurning ? "room.console.patrol.stop" : "room.console.patrol.start"));
    const tests = new Map((this.#desk.told?.tests ?? []).map((one) => [one.site_id, one]));
    const there = new Map(this.#sites().map((one) => [one.site_id, one]));
    const ids = [...new Set([...there.keys(), ...tests.keys()])];
    byId("sites-empty").hidden = ids.length > 0;
    const stage = this.#client.state.stage ?? [];
    replaceIfChanged(byId("sites"), JSON.stringify([ids, [...tests.values()], [...there.values()], stage]), () => ids.map((id) => {
      const site = there.get(id);
      const test = tests.get(id);
      const { name, unit } = site ?? test;
      const chips = html("span", "chips", "",
        site ? chip(site.camera === false ? "waiting" : "live", site.camera === false ? "eyeoff" : "eye", t(site.camera === false ? "room.console.site.no_camera" : "room.console.site.there"))
          : chip("calm", "off", t("room.console.away")),
        test ? chip(test.ready ? "live" : "waiting", test.ready ? "ready" : "warn", test.ready ? t("room.test.ready.short", { time: timeWords(test.at) }) : t(`room.test.todo.${test.todo[0]?.replace(" ", "") ?? "camera"}`))
          : chip("calm", "info", t("room.test.none.short")));
      const row = html("li", "", "", html("span", "row-title", name), html("span", "hint", unit === name ? "" : unit), chips);
      if (site) {
        const isOn = stage.includes(site.source);
        row.append(
          button("", "eye", t("room.console.to_preview"), () => this.#preview(site.source)),
          button("", isOn ? "minus" : "people", t(isOn ? "room.console.stage.off" : "room.console.stage.on"), () => this.#desk.stage(site.source, this.#client.state)));
      }
      return row;
    }));
  }
}

export class OrderPanel {
  #desk;
  #client;

  constructor(desk, client) {
    this.#desk = desk;
    this.#client = client;
    byId("order-next").addEventListener("click", () => this.#next());
    byId("order-put").addEventListener("click", () => {
      const site = Number(byId("order-add").value);
      if (site) this.#put([...this.#list(), site]);
    });
  }

  get keys() {
    return { x: () => byId("order-next").disabled || this.#next() };
  }

  #list() {
    return this.#client.state.order?.sites ?? [];
  }

  #put(sites) {
    this.#desk.tell("PUT", "order", { sites });
  }

  #next() {
    this.#desk.tell("POST", "order/next", { programme: true });
  }

  #move(index, by) {
    const sites = [...this.#list()];
    const [one] = sites.splice(index, 1);
    sites.splice(index + by, 0, one);
    this.#put(sites);
  }

  draw() {
    const { state } = this.#client;
    const { sites = [], at = -1 } = state.order ?? {};
    const known = new Map((this.#desk.told?.sites ?? []).map((one) => [one.site_id, one.name]));
    const nameOf = (id) => known.get(id) || sourceName(state, siteSource(id));
    byId("order-empty").hidden = sites.length > 0;
    byId("order-next").disabled = sites.length === 0 || at >= sites.length;
    replaceIfChanged(byId("order"), JSON.stringify([sites, at, sites.map(nameOf)]), () => sites.map((id, index) => {
      const up = button("quiet", "up", t("room.console.order.up"), () => this.#move(index, -1));
      const away = button("quiet", "x", t("room.console.order.away"), () => this.#put(sites.filter((_, place) => place !== index)));
      for (const one of [up, away]) one.querySelector("span").className = "sr-only";
      up.disabled = index === 0;
      const row = html("li", "", "", html("span", "row-title", nameOf(id)), up, away);
      if (index === at) row.setAttribute("aria-current", "true");
      return row;
    }));
    const left = [...known].filter(([id]) => !sites.includes(id));
    replaceIfChanged(byId("order-add"), JSON.stringify(left), () => left.map(([id, name]) => new Option(name, String(id))));
    byId("order-put").disabled = left.length === 0;
    byId("order-add").disabled = left.length === 0;
  }
}

export class SayingsPanel {
  #desk;
  #client;

  constructor(desk, client) {
    this.#desk = desk;
    this.#client = client;
    byId("chat-on").addEventListener("change", () => desk.tell("PUT", "chat", { on: byId("chat-on").checked }));
  }

  draw() {
    byId("chat-on").checked = Boolean(this.#client.state.chat?.on);
    const words = (this.#desk.told?.words ?? []).toSorted((a, b) => b.id - a.id);
    byId("sayings-empty").hidden = words.length > 0;
    replaceIfChanged(byId("sayings"), JSON.stringify(words), () => words.map((one) => {
      const isShown = one.state === "approved";
      const row = html("li", "", "", html("span", "row-title", one.name || t("room.console.chat.somebody")), html("span", "hint", timeWords(one.at)), html("p", "", one.text));
      if (!isShown) row.append(button("primary", "eye", t("room.console.chat.show"), () => this.#desk.tell("PUT", `chat/${one.id}`, { approved: true })));
      if (one.state !== "hidden") row.append(button("", "eyeoff", t("room.console.chat.hide"), () => this.#desk.tell("PUT", `chat/${one.id}`, { approved: false })));
      row.dataset.state = one.state || "new";
      return row;
    }));
  }
}
