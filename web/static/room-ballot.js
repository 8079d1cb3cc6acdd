/** The card of a secret ballot: choose, cast, and see the result when it is sealed no longer. */

import { html, replaceIfChanged } from "./drawing.js";
import { ballotLeft, drawBars } from "./room-parts.js";
import { byId, setText, t } from "./page.js";

export class Ballots {
  #client;
  #room;
  #said = "";

  /**
   * @param {import("./room-client.js").RoomClient} client
   * @param {string} room
   */
  constructor(client, room) {
    this.#client = client;
    this.#room = room;
    byId("ballot-form").addEventListener("submit", (event) => event.preventDefault());
  }

  /** Draw the card; whether there is something to see. */
  draw() {
    const { ballot } = this.#client.state;
    byId("ballot-card").hidden = !ballot || !(ballot.open || ballot.result);
    if (byId("ballot-card").hidden) return false;
    setText(byId("ballot-question"), ballot.question);
    setText(byId("ballot-left-word"), ballot.open ? ballotLeft(this.#client) : t("room.ballot.closed"));
    byId("ballot-form").hidden = !ballot.open;
    byId("ballot-result").hidden = ballot.open;
    if (!ballot.open) {
      drawBars(byId("ballot-result"), ballot.options, ballot.result ?? []);
      setText(byId("ballot-hint"), t("room.ballot.result"));
      return true;
    }
    replaceIfChanged(byId("ballot-options"), `${ballot.id} ${ballot.options.join("\n")}`, () =>
      ballot.options.map((option, index) => {
        const input = html("input");
        Object.assign(input, { type: "radio", name: "vote", value: String(index), required: true });
        return html("label", "option big", "", input, html("span", "", option));
      }));
    setText(byId("ballot-hint"), this.#said || t("room.ballot.secret"));
    return true;
  }
}
