/**
 * The director's commands, and what only the director is told: hands with their words, all sites,
 * line tests, what waits to be let through. Asked again and again; the tree's state comes faster.
 */

import { call, keep } from "./centre-api.js";
import { stream as room, t } from "./page.js";

const ASK_EVERY_MS = 1500;
export const BASE = `/api/occurrences/${room}/room`;

export class Desk {
  /** What `GET room` answered last, null before the first answer. */
  told = null;
  /** The sentence of the last command that was refused, "" after one that was done. */
  sentence = "";

  #changed;
  #asking = null;

  /** @param {() => void} changed */
  constructor(changed) {
    this.#changed = changed;
  }

  /** Who is signed in; goes to the sign-in page when nobody is. */
  async begin() {
    const { status, body } = await call("/api/session");
    if (status === 401) {
      location.replace(`/centre/signin?next=${encodeURIComponent(location.pathname + location.search)}`);
      return new Promise(() => {});
    }
    if (status === 200) keep(body);
    await this.look();
    setInterval(() => document.hidden || this.look(), ASK_EVERY_MS);
    return body;
  }

  /** Ask how things stand; what is under way serves all who ask. */
  look() {
    this.#asking ??= call(BASE).then(({ status, body, sentence }) => {
      this.#asking = null;
      if (status === 200) this.told = body;
      else this.sentence = status === 0 ? t("room.console.silent") : sentence || String(status);
      this.#changed();
    });
    return this.#asking;
  }

  /**
   * Give a command, and look what has come of it.
   *
   * @returns {Promise<{status: number, body: any, isDone: boolean}>}
   */
  async tell(method, path, body) {
    return this.#give(method, path ? `${BASE}/${path}` : BASE, body);
  }

  /** Let a source stand on stage with others, heard by all; or, if it is there, no longer. */
  async stage(source, state) {
    const now = state.stage ?? [];
    if (now.includes(source)) return this.tell("PUT", "stage", { sources: now.filter((one) => one !== source) });
    const answer = await this.tell("PUT", "stage", { sources: [...now, source] });
    if (!answer.isDone || state.floor?.[source]) return answer;
    return this.tell("PUT", `floor/${source}`, { heard: true, muted: false, programme: false });
  }

  /** End the meeting: what was recorded of it goes into the library. */
  async end() {
    return this.#give("POST", `/api/occurrences/${room}/end`);
  }

  async #give(method, address, body) {
    const answer = await call(address, { method, body });
    const isDone = answer.status >= 200 && answer.status < 300;
    this.sentence = isDone ? "" : answer.status === 0 ? t("room.console.silent") : answer.sentence || String(answer.status);
    this.#changed();
    this.look();
    return { ...answer, isDone };
  }
}
