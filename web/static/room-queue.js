/** The queue of hands, and who has the floor: each with its unit, its time and a small live picture. */

import { html, icon } from "./drawing.js";
import { Wall } from "./room-media.js";
import { sourceName } from "./room-parts.js";
import { clockWords, seconds, siteSource, speakers, streamOf } from "./room-view.js";
import { byId, number, setText, stream as room, t, tn } from "./page.js";

/** Hands beyond these wait without a picture: sixteen may come up the tree at once. */
export const MOST_PICTURES = 6;

function button(name, symbol, words, act) {
  const made = html("button", name, "", icon(symbol), html("span", "", words));
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

export class Queue {
  #desk;
  #client;
  #preview;
  #hands;
  #speakers;

  /**
   * @param {import("./room-desk.js").Desk} desk
   * @param {import("./room-client.js").RoomClient} client
   * @param {(source: string) => void} preview  take a source into the preview
   */
  constructor(desk, client, preview) {
    this.#desk = desk;
    this.#client = client;
    this.#preview = preview;
    this.#hands = new Wall(byId("hands"), (source, frame) => this.#hand(source, frame));
    this.#speakers = new Wall(byId("speakers"), (source, frame) => this.#speaker(source, frame));
  }

  /** The sources whose small pictures are wanted here. */
  get wanted() {
    return this.#list().slice(0, MOST_PICTURES).map(({ site_id: site }) => siteSource(site));
  }

  #list() {
    return this.#desk.told?.hands ?? [];
  }

  /** Give the floor: heard by all, and seen by all. */
  async give(source) {
    await this.#desk.tell("PUT", `floor/${source}`, { heard: true, muted: false, programme: true });
  }

  async #giveSound(source) {
    await this.#desk.tell("PUT", `floor/${source}`, { heard: true, muted: false, programme: false });
  }

  async take(source) {
    await this.#desk.tell("DELETE", `floor/${source}`);
  }

  /** The first of the queue gets the floor. */
  giveNext() {
    const [first] = this.#list();
    if (first) this.give(siteSource(first.site_id));
  }

  #hand(source, frame) {
    const made = html("li", "hand-row", "", frame,
      html("div", "hand-words", "", html("strong", "hand-name"), html("span", "hand-unit"), html("q", "hand-text"), html("span", "hand-wait")),
      html("div", "hand-buttons", "",
        button("primary", "mic", t("room.console.give"), () => this.give(source)),
        button("", "sound", t("room.console.give.sound"), () => this.#giveSound(source)),
        button("", "eye", t("room.console.to_preview"), () => this.#preview(source)),
        button("quiet", "x", t("room.console.hand.down"), () => this.#desk.tell("DELETE", `hands/${source.slice(5)}`))));
    return made;
  }

  #speaker(source, frame) {
    return html("li", "speaker", "", frame,
      html("div", "hand-words", "", html("strong", "hand-name"), html("span", "hand-unit"), html("span", "chips")),
      html("div", "hand-buttons", "",
        button("danger take", "off", t("room.console.take"), () => this.take(source)),
        button("mute", "micoff", t("room.console.mute"), () => this.#mute(source)),
        button("show", "live", t("room.console.to_air"), () => this.#desk.tell("PUT", "programme", { source, muted: false })),
        button("stage", "people", t("room.console.stage.on"), () => this.#desk.stage(source, this.#client.state))));
  }

  #mute(source) {
    const turn = this.#client.state.floor?.[source];
    if (turn) this.#desk.tell("PUT", `floor/${source}`, { heard: true, muted: !turn.muted, programme: false });
  }

  draw() {
    const hands = this.#list();
    const now = this.#client.now();
    setText(byId("queue-word"), hands.length ? tn("room.console.hands.count", hands.length) : t("room.console.hands"));
    byId("hands-empty").hidden = hands.length > 0;
    this.#hands.show(hands.map(({ site_id: site }, index) => ({
      key: siteSource(site), stream: index < MOST_PICTURES ? streamOf(room, siteSource(site)) : "",
    })));
    hands.forEach((hand, index) => {
      const row = this.#hands.tile(siteSource(hand.site_id));
      const words = row.querySelector(".hand-words");
      row.dataset.first = index === 0 ? "yes" : "no";
      setText(words.children[0], hand.name);
      setText(words.children[1], hand.unit === hand.name ? "" : hand.unit);
      words.children[2].hidden = !hand.text;
      setText(words.children[2], hand.text);
      setText(words.children[3], t("room.console.waits", { n: number(index + 1), time: clockWords(now - seconds(hand.since)) }));
    });
    this.#drawSpeakers(now);
  }

  #drawSpeakers(now) {
    const { state } = this.#client;
    const all = speakers(state).filter(({ source }) => source.startsWith("site-"));
    this.#speakers.show(all.map(({ source }) => ({ key: source, stream: streamOf(room, source) })));
    for (const { source, since, muted, lost } of all) {
      const row = this.#speakers.tile(source);
      const isAir = state.programme?.source === source;
      row.dataset.air = isAir ? "yes" : "no";
      row.dataset.lost = lost ? "yes" : "no";
      row.dataset.muted = muted ? "yes" : "no";
      const words = row.querySelector(".hand-words");
      setText(words.children[0], sourceName(state, source));
      setText(words.children[1], t("room.console.speaks", { time: clockWords(now - seconds(since)) }));
      setText(words.children[2], t(lost ? "room.console.lost" : muted ? "room.console.muted" : isAir ? "room.console.on_air" : "room.console.heard"));
      row.querySelector(".show").hidden = isAir;
      setText(row.querySelector(".stage span"), t((state.stage ?? []).includes(source) ? "room.console.stage.off" : "room.console.stage.on"));
      setText(row.querySelector(".mute span"), t(muted ? "room.console.unmute" : "room.console.mute"));
    }
  }
}
