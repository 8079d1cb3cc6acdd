/** The director's slides: what is shown, what comes next, and another file. */

import { pagePicture } from "./room-parts.js";
import { decks, pageAt } from "./room-view.js";
import { BASE } from "./room-desk.js";
import { byId, number, setText, t, token } from "./page.js";
import { call } from "./centre-api.js";

const MOST_KEPT = 12;

export class SlideDesk {
  #desk;
  #client;
  #chosen = "";
  #pictures = new Map();

  constructor(desk, client) {
    this.#desk = desk;
    this.#client = client;
    byId("page-on").addEventListener("click", () => this.flip(1));
    byId("page-back").addEventListener("click", () => this.flip(-1));
    byId("slides-off").addEventListener("click", () => desk.tell("PUT", "slides", { deck: null, page: 1 }));
    byId("deck").addEventListener("change", () => {
      this.#chosen = byId("deck").value;
      this.draw();
    });
    byId("deck-file").addEventListener("change", () => this.#upload());
  }

  /** The deck that is flipped, and the page that is shown of it: 0 before the first. */
  #at() {
    const { slides } = this.#client.state;
    const all = decks(this.#client.state);
    const deck = this.#chosen || String(slides?.deck ?? "") || all.at(-1) || "";
    const page = String(slides?.deck) === deck ? slides.page : 0;
    return { deck, page, all };
  }

  flip(by) {
    const { deck, page } = this.#at();
    const next = pageAt(this.#client.state, deck, page + by);
    if (next) this.#desk.tell("PUT", "slides", { deck: Number(deck), page: page + by });
  }

  async #upload() {
    const [file] = byId("deck-file").files;
    if (!file) return;
    byId("deck-file").value = "";
    setText(byId("deck-said"), t("room.console.deck.sending", { name: file.name }));
    const path = `${BASE}/decks?name=${encodeURIComponent(file.name)}`;
    const { status, body, sentence } = await call(path, { method: "POST", file });
    const isDone = status >= 200 && status < 300;
    if (isDone) this.#chosen = String(body.id);
    setText(byId("deck-said"), isDone ? t("room.console.deck.done", { n: number(body.pages?.length ?? 0) })
      : t("room.console.refused", { sentence: sentence || String(status) }));
    this.#desk.look();
  }

  async #show(image, page) {
    image.hidden = page === null;
    if (page === null || image.dataset.sha256 === page.sha256) return;
    image.dataset.sha256 = page.sha256;
    let address = this.#pictures.get(page.sha256);
    if (!address) {
      address = await pagePicture(page.sha256, token());
      if (!address) {
        image.dataset.sha256 = "";
        return;
      }
      this.#pictures.set(page.sha256, address);
      if (this.#pictures.size > MOST_KEPT) {
        const [oldest, old] = this.#pictures.entries().next().value;
        URL.revokeObjectURL(old);
        this.#pictures.delete(oldest);
      }
    }
    if (image.dataset.sha256 === page.sha256) image.src = address;
  }

  draw() {
    const { state } = this.#client;
    const { deck, page, all } = this.#at();
    const names = all.map((id) => [id, state[`deck:${id}`].name || t("room.console.deck.one", { n: id })]);
    const key = JSON.stringify([names, deck]);
    if (byId("deck").dataset.key !== key) {
      byId("deck").dataset.key = key;
      byId("deck").replaceChildren(...names.map(([id, name]) => new Option(name, id, false, id === deck)));
    }
    byId("deck").disabled = all.length === 0;
    const now = pageAt(state, deck, page);
    const next = pageAt(state, deck, page + 1);
    byId("page-now-box").dataset.on = now ? "yes" : "no";
    setText(byId("page-now-words"), now ? t("room.console.slides.now", { n: number(now.number), of: number(now.of) })
      : t(all.length ? "room.console.slides.hidden" : "room.console.slides.none"));
    setText(byId("page-next-words"), next ? t("room.console.slides.next_n", { n: number(next.number) })
      : now ? t("room.console.slides.last") : "");
    byId("page-on").disabled = next === null;
    byId("page-back").disabled = page < 2;
    byId("slides-off").hidden = now === null;
    this.#show(byId("page-now"), now);
    this.#show(byId("page-next"), next);
  }
}
