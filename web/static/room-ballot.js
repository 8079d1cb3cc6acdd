/** The card of a secret ballot: choose, cast, and see the result when it is sealed no longer. */

import { Paper } from "./ballot.js";
import { call, keep } from "./centre-api.js";
import { html, replaceIfChanged } from "./drawing.js";
import { ballotLeft, drawBars } from "./room-parts.js";
import { byId, setText, t, token } from "./page.js";

const KEPT_EVERY_MS = 200;
const KEPT_WITHIN_MS = 15_000;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

export class Ballots {
  #client;
  #room;
  #said = "";
  /** The ballot that this was said of. */
  #saidOf = 0;
  #isCasting = false;
  /** The ballot that this page has cast its vote in, 0 for none. */
  #castIn = 0;

  /**
   * @param {import("./room-client.js").RoomClient} client
   * @param {string} room
   */
  constructor(client, room) {
    this.#client = client;
    this.#room = room;
    byId("ballot-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = byId("ballot-form").elements.vote?.value ?? "";
      if (chosen !== "" && !this.#isCasting) this.#cast(this.#client.state.ballot, Number(chosen));
    });
  }

  /**
   * Cast a vote: the centre signs a paper that it cannot read, for who asks; the sealed vote then
   * goes up the tree, and nobody can say from whom it came.
   */
  async #cast(ballot, choice) {
    this.#isCasting = true;
    this.#saidOf = ballot.id;
    this.#say("room.ballot.casting");
    try {
      if (!Paper.possible) return this.#say("room.ballot.insecure");
      const paper = await Paper.of(this.#room, ballot);
      const answer = await this.#sign(ballot, paper.blinded);
      if (answer.status === 401 || answer.status === 404) return this.#say("room.ballot.signin");
      if (answer.status === 409 && this.#client.state.ballot?.open) {
        return this.#say(ballot.voters === "units" ? "room.ballot.taken.unit" : "room.ballot.taken");
      }
      if (answer.status !== 200 && answer.status !== 201) {
        return this.#say("room.ballot.refused", { sentence: answer.sentence || String(answer.status) });
      }
      this.#client.ballot(ballot.id, await paper.vote(choice, answer.body.signed));
      for (let waited = 0; this.#client.isWaiting("ballot"); waited += KEPT_EVERY_MS) {
        if (waited > KEPT_WITHIN_MS) return this.#say("room.ballot.late");
        await pause(KEPT_EVERY_MS);
      }
      paper.forget();
      this.#castIn = ballot.id;
      return this.#say("room.ballot.done");
    } catch (error) {
      return this.#say("room.ballot.refused", { sentence: error.message });
    } finally {
      this.#isCasting = false;
      this.draw();
    }
  }

  /** Ask for the signature, as who this page is: by its pass, or by the session at the centre. */
  async #sign(ballot, blinded) {
    const path = `/api/occurrences/${this.#room}/room/ballots/${ballot.id}/signatures`;
    if (!token()) {
      const session = await call("/api/session");
      if (session.status === 200) keep(session.body);
    }
    const body = this.#client.as === "viewer" ? { blinded } : { blinded, as: this.#client.as };
    return call(path, { method: "POST", body, bearer: token() });
  }

  #say(key, values = {}) {
    this.#said = t(key, values);
    setText(byId("ballot-hint"), this.#said);
  }

  /** Draw the card; whether there is something to see. */
  draw() {
    const { ballot } = this.#client.state;
    byId("ballot-card").hidden = !ballot;
    if (byId("ballot-card").hidden) return false;
    setText(byId("ballot-question"), ballot.question);
    setText(byId("ballot-left-word"), ballot.open ? ballotLeft(this.#client) : t("room.ballot.closed"));
    byId("ballot-form").hidden = !ballot.open || this.#castIn === ballot.id;
    byId("ballot-cast").disabled = this.#isCasting;
    byId("ballot-result").hidden = !ballot.result;
    if (!ballot.open) {
      if (ballot.result) drawBars(byId("ballot-result"), ballot.options, ballot.result);
      setText(byId("ballot-hint"), t(ballot.result ? "room.ballot.result" : "room.ballot.counting"));
      return true;
    }
    replaceIfChanged(byId("ballot-options"), `${ballot.id} ${ballot.options.join("\n")}`, () =>
      ballot.options.map((option, index) => {
        const input = html("input");
        Object.assign(input, { type: "radio", name: "vote", value: String(index), required: true });
        return html("label", "option big", "", input, html("span", "", option));
      }));
    const isSaid = this.#said && this.#saidOf === ballot.id;
    setText(byId("ballot-hint"), isSaid ? this.#said : t("room.ballot.secret"));
    return true;
  }
}
