/** Panels for what is played in, and for the doors: where presenters and sites come in. */

import { html, icon, replaceIfChanged } from "./drawing.js";
import { call } from "./centre-api.js";
import { BASE } from "./room-desk.js";
import { byId, setText, stream as room, t, token } from "./page.js";

const ROLES = ["presenter", "second", "screen"];

export class FilmPanel {
  #desk;
  #preview;
  #courses = null;

  constructor(desk, preview) {
    this.#desk = desk;
    this.#preview = preview;
    byId("film-stop").addEventListener("click", () => desk.tell("DELETE", "file"));
  }

  async opened() {
    if (this.#courses !== null) return;
    this.#courses = [];
    const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
    const response = await fetch("/api/courses", { headers }).catch(() => null);
    const body = response?.ok ? await response.json() : null;
    this.#courses = (body?.courses ?? body?.items ?? []).slice(0, 100);
    this.draw();
  }

  async #play(course) {
    const { isDone } = await this.#desk.tell("POST", "file", { course_id: course.id });
    if (isDone) this.#preview("file");
  }

  draw() {
    const name = this.#desk.told?.file ?? "";
    byId("film-now").hidden = name === "";
    setText(byId("film-name"), name);
    const courses = this.#courses ?? [];
    byId("films-empty").hidden = courses.length > 0;
    replaceIfChanged(byId("films"), JSON.stringify(courses.map(({ id, title }) => [id, title])), () => courses.map((course) => {
      const play = html("button", "", "", icon("play"), html("span", "", t("room.console.film.play")));
      play.type = "button";
      play.addEventListener("click", () => this.#play(course));
      return html("li", "", "", html("span", "row-title", course.title), play);
    }));
  }
}

export class DoorsPanel {
  #desk;

  constructor(desk) {
    this.#desk = desk;
  }

  /** Open a page with the token that it needs, in the address's fragment, which no server sees. */
  async #open(path, query) {
    const { status, body, sentence } = await call(`${BASE}/pass?${query}`);
    if (status !== 200) return setText(byId("doors-said"), t("room.console.refused", { sentence: sentence || String(status) }));
    window.open(body.token ? `${path}#token=${body.token}` : path, "_blank", "noopener");
    return undefined;
  }

  draw() {
    replaceIfChanged(byId("doors"), "all", () => [
      ...ROLES.filter((role) => role !== "screen").map((role) => [t(`room.door.${role}`), `/room/${room}?as=${role}`, `role=${role}`]),
      [t("room.door.screen"), `/room/${room}?as=screen`, "role=screen"],
      [t("room.door.hall"), `/room/${room}/hall`, "role=viewer"],
      [t("room.door.phone"), `/room/${room}/phone`, "role=viewer"],
    ].map(([words, path, query]) => {
      const door = html("button", "", "", icon("play"), html("span", "", words));
      door.type = "button";
      door.addEventListener("click", () => this.#open(path, query));
      return html("li", "", "", door, html("span", "hint", path));
    }));
  }
}
