/** Quick questions and secret ballots, as the director asks, closes and shows them. */

import { html, replaceIfChanged } from "./drawing.js";
import { drawBars, drawRing } from "./room-parts.js";
import { call } from "./centre-api.js";
import { BASE } from "./room-desk.js";
import { clockWords, seconds } from "./room-view.js";
import { byId, number, setIcon, setText, t, tn } from "./page.js";

const LOOK_EVERY_MS = 5000;

/** The answers of a field, one a line. */
const lines = (id) => byId(id).value.split("\n").map((one) => one.trim()).filter(Boolean);

export class AskPanel {
  #desk;

  constructor(desk) {
    this.#desk = desk;
    byId("poll-form").addEventListener("submit", (event) => {
      event.preventDefault();
      desk.tell("POST", "polls", { question: byId("poll-text").value.trim(), options: lines("poll-answers") });
    });
    byId("poll-show").addEventListener("click", () => {
      const poll = this.#poll();
      if (poll) desk.tell("PUT", `polls/${poll.id}`, { shown: !poll.shown });
    });
    byId("poll-end").addEventListener("click", () => {
      const poll = this.#poll();
      if (poll) desk.tell("PUT", `polls/${poll.id}`, poll.open ? { open: false } : { open: false, shown: false });
    });
  }

  #poll() {
    return (this.#desk.told?.polls ?? []).toSorted((a, b) => b.id - a.id).find(({ open, shown }) => open || shown) ?? null;
  }

  draw() {
    const poll = this.#poll();
    byId("poll-now").hidden = poll === null;
    byId("poll-form").hidden = poll !== null;
    if (poll === null) return;
    setText(byId("poll-question"), poll.question);
    drawBars(byId("poll-bars"), poll.options, poll.counts);
    setText(byId("poll-voters"), tn("room.poll.voters", poll.voters));
    byId("poll-show").setAttribute("aria-pressed", String(poll.shown));
    setText(byId("poll-show-word"), t(poll.shown ? "room.console.poll.hide" : "room.console.poll.show"));
    setText(byId("poll-end").querySelector("span"), t(poll.open ? "room.console.poll.end" : "room.console.poll.away"));
  }
}

export class VotePanel {
  #desk;
  #client;
  #detail = null;
  #lookedMs = -LOOK_EVERY_MS;

  constructor(desk, client) {
    this.#desk = desk;
    this.#client = client;
    byId("vote-form").addEventListener("submit", (event) => {
      event.preventDefault();
      desk.tell("POST", "ballots", {
        question: byId("vote-text").value.trim(), options: lines("vote-answers"),
        voters: byId("vote-voters").value, minutes: Number(byId("vote-minutes").value),
      });
    });
    byId("vote-end").addEventListener("click", () => {
      const one = this.#ballot();
      if (one?.open) desk.tell("POST", `ballots/${one.id}/close`);
      else this.#isPutAway = one?.id ?? 0;
      this.draw();
    });
  }

  #isPutAway = 0;

  #ballot() {
    const newest = (this.#desk.told?.ballots ?? []).toSorted((a, b) => b.id - a.id)[0] ?? null;
    return newest && newest.id !== this.#isPutAway ? newest : null;
  }

  async #look(id) {
    this.#lookedMs = performance.now();
    const { status, body } = await call(`${BASE}/ballots/${id}`);
    if (status === 200) this.#detail = body;
  }

  draw() {
    const one = this.#ballot();
    byId("vote-now").hidden = one === null;
    byId("vote-form").hidden = one !== null;
    if (one === null) return;
    if (performance.now() - this.#lookedMs > LOOK_EVERY_MS || (this.#detail?.id === one.id && this.#detail.open !== one.open)) this.#look(one.id);
    const detail = this.#detail?.id === one.id ? this.#detail : null;
    setText(byId("vote-question"), one.question);
    setIcon("vote-chip-icon", one.open ? "lock" : "ready");
    this.tick();
    byId("vote-bars").hidden = !one.result;
    if (one.result) drawBars(byId("vote-bars"), one.options, one.result);
    const units = detail?.turnout ?? [];
    const papers = units.reduce((sum, unit) => sum + unit.papers, 0);
    const invited = units.reduce((sum, unit) => sum + unit.invited, 0);
    const share = invited ? papers / invited : 0;
    const words = t("room.console.vote.turnout", { papers: number(papers), invited: number(invited) });
    replaceIfChanged(byId("vote-ring"), `${share} ${words}`, () => [drawRing(share, words), html("p", "hint", words)]);
    replaceIfChanged(byId("vote-units"), JSON.stringify(units), () => units.length === 0 ? [] : [
      html("thead", "", "", html("tr", "", "", html("th", "", t("room.console.vote.unit")), html("th", "", t("room.console.vote.papers")), html("th", "", t("room.console.vote.invited")))),
      html("tbody", "", "", ...units.map((unit) => html("tr", "", "", html("th", "", unit.unit), html("td", "", number(unit.papers)), html("td", "", number(unit.invited))))),
    ]);
    setText(byId("vote-end").querySelector("span"), t(one.open ? "room.console.vote.end" : "room.console.vote.away"));
    byId("vote-csv").hidden = one.open;
    byId("vote-csv").href = `${BASE}/ballots/${one.id}/result.csv`;
  }

  tick() {
    const one = this.#ballot();
    if (one === null) return;
    setText(byId("vote-left"), one.open ? t("room.ballot.left", { time: clockWords(seconds(one.until) - this.#client.now()) }) : t("room.ballot.closed"));
  }
}
