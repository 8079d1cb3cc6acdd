/** A telephone in the meeting: answer, vote, ask; the sound only when it is asked for. */

import { LivePicture } from "./classline.js";
import { html } from "./drawing.js";
import { Ballots } from "./room-ballot.js";
import { RoomClient } from "./room-client.js";
import { drawChat, drawClock, drawHead, drawPoll, drawSlide, onKeys, sourceName } from "./room-parts.js";
import { streamOf, unitOf } from "./room-view.js";
import { byId, setIcon, setText, stream as room, t, token, tokenForm } from "./page.js";

const asked = new URLSearchParams(location.search);
const person = Number(asked.get("person")) || null;

let isListening = false;

const client = new RoomClient(room, person ? `person:${person}` : "viewer", changed);
const ballots = new Ballots(client, room);
const showTokenForm = tokenForm(() => client.hurry());
const sound = new LivePicture(byId("listen-audio"), html("canvas"), draw, { token, kinds: ["audio"] });

function draw() {
  const { state } = client;
  drawHead(client);
  const source = state.programme?.source;
  setText(byId("now-name"), source ? sourceName(state, source) : "–");
  setText(byId("now-unit"), source ? unitOf(state, source) : "");
  const hasPoll = drawPoll(client);
  const hasBallot = ballots.draw();
  byId("quiet-card").hidden = hasPoll || hasBallot;
  drawChat(state);
  byId("listen").setAttribute("aria-pressed", String(isListening));
  setIcon("listen-icon", isListening ? "muted" : "sound");
  setText(byId("listen-word"), t(isListening ? "room.phone.quiet" : "room.phone.listen"));
  showTokenForm(client.link === "refused");
}

function changed() {
  drawSlide(client.state, token());
  draw();
}

byId("listen").addEventListener("click", () => {
  isListening = !isListening;
  if (isListening) sound.play(`/whep/${encodeURIComponent(streamOf(room))}`);
  else sound.stop();
  sound.allowSound();
  draw();
});
byId("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("chat-text").value.trim();
  if (!text) return;
  client.say(text);
  byId("chat-text").value = "";
  setText(byId("chat-hint"), t("room.chat.sent"));
});
onKeys(Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => [n, () => {
  byId("poll-options").querySelectorAll("button")[n - 1]?.click();
}])));
addEventListener("pagehide", () => client.stop());

window.terraceStats = () => ({ state: client.state, link: client.link, sound: sound.state });
window.terrace = Object.freeze({ page: "room-phone", room, stats: window.terraceStats, client });

client.start();
setInterval(() => {
  drawClock(client);
  ballots.draw();
}, 1000);
draw();
