/** The hall's projector: what all watch, who it is, who is called, and how the votes stand. */

import { replaceIfChanged } from "./drawing.js";
import { RoomClient } from "./room-client.js";
import { Ears, Picture, Wall } from "./room-media.js";
import {
  ballotLeft, drawBars, drawClock, drawCurtain, drawHead, drawPlate, drawRing, drawSlide, onKeys,
  sourceName, toggleFull,
} from "./room-parts.js";
import { ears, isOver, isOwnProgramme, scene, seconds, siteSource, streamOf } from "./room-view.js";
import { html } from "./drawing.js";
import { byId, setIcon, setText, number, stream as room, t, tn, token, tokenForm } from "./page.js";

const IDLE_AFTER_MS = 4000;
// A result that nothing has followed is taken off the screen.
const RESULT_FOR_S = 90;

const asked = new URLSearchParams(location.search);
const site = Number(asked.get("site")) || null;
// A hall whose own room speaks must not hear itself.
const own = site ? siteSource(site) : "";

let wantsSound = false;
let scenes = "";

const client = new RoomClient(room, "viewer", changed);
const showTokenForm = tokenForm(() => client.hurry());
const programme = new Picture(byId("programme"), { label: t("room.programme"), isQuiet: true, changed: draw });
const heard = new Ears(byId("ears"));
const stage = new Wall(byId("stage"), (source, frame) => html("div", "tile", "", frame, html("span", "tile-name")));

function drawSide(now) {
  byId("side").hidden = now !== "poll" && now !== "ballot";
  if (byId("side").hidden) return;
  const asking = now === "poll" ? client.state.poll : client.state.ballot;
  setIcon("side-icon", now === "poll" ? "bars" : "lock");
  setText(byId("side-kind-word"), now === "poll" ? t("room.poll") : t("room.ballot"));
  setText(byId("side-title"), asking.question);
  const chart = byId("side-chart");
  const counts = now === "poll" ? (asking.shown ? (asking.counts ?? []) : null) : asking.result;
  if (counts) {
    if (chart.dataset.key !== `bars ${now} ${asking.id}`) {
      chart.dataset.key = `bars ${now} ${asking.id}`;
      delete chart.dataset.options;
      chart.className = "options big-bars";
      chart.replaceChildren();
    }
    drawBars(chart, asking.options, counts);
  } else {
    chart.className = "options";
    replaceIfChanged(chart, `ask ${now} ${asking.id}`, () => asking.options.map((option, index) =>
      html("p", "option-line", "", html("b", "", String(index + 1)), html("span", "", option))));
  }
  setText(byId("side-turnout"), now === "poll" ? tn("room.poll.voters", asking.voters ?? 0)
    : asking.open ? ballotLeft(client) : t(counts ? "room.ballot.closed" : "room.ballot.counting"));
}

function drawCall(now) {
  byId("call").hidden = now !== "rollcall";
  if (now !== "rollcall") return;
  const { rollcall } = client.state;
  setText(byId("call-kind"), t("room.hall.call", { n: number(Math.min(rollcall.done + 1, rollcall.total)), of: number(rollcall.total) }));
  setText(byId("call-name"), rollcall.unit || rollcall.name);
  setText(byId("call-unit"), rollcall.unit === rollcall.name ? "" : rollcall.name);
}

function draw() {
  const { ballot } = client.state;
  const closedFor = ballot && !ballot.open ? client.now() - seconds(ballot.until) : Infinity;
  const now = scene(client.state, closedFor < RESULT_FOR_S);
  const hasSlide = !byId("slide-box").hidden;
  scenes = `${now} ${hasSlide}`;
  byId("hall").dataset.scene = now;
  byId("hall").dataset.slide = hasSlide && now !== "rollcall" && now !== "stage" ? "yes" : "no";
  drawHead(client);
  setText(byId("hall-title"), client.state.meeting?.title ?? "");
  drawPlate(client.state);
  drawCurtain(client.state, programme);
  drawSide(now);
  drawCall(now);
  byId("sound").setAttribute("aria-pressed", String(wantsSound));
  setIcon("sound-icon", wantsSound ? "sound" : "muted");
  showTokenForm(client.link === "refused");
}

function drawStage() {
  const sources = client.state.stage ?? [];
  const shown = sources.length > 1 ? sources : [];
  byId("stage").hidden = shown.length === 0;
  byId("stage").dataset.count = String(shown.length);
  stage.show(shown.map((source) => ({ key: source, stream: streamOf(room, source) })));
  for (const source of shown) {
    const tile = stage.tile(source);
    setText(tile.lastElementChild, sourceName(client.state, source));
    tile.dataset.programme = client.state.programme?.source === source ? "yes" : "no";
  }
}

function listen() {
  programme.isQuiet = !wantsSound || isOwnProgramme(client.state, own);
  heard.hear(wantsSound ? ears(client.state, own).map((source) => streamOf(room, source)) : []);
}

function changed() {
  const { state } = client;
  programme.show(state.meeting && !isOver(state) ? streamOf(room) : "");
  drawStage();
  listen();
  drawSlide(state, token()).then(draw);
  draw();
}

function toggleSound() {
  wantsSound = !wantsSound;
  if (wantsSound) programme.allowSound();
  listen();
  draw();
}

let stirredMs = performance.now();

function stir() {
  stirredMs = performance.now();
  byId("hall").dataset.idle = "no";
}

for (const name of ["pointermove", "keydown", "focusin"]) addEventListener(name, stir);
byId("sound").addEventListener("click", toggleSound);
byId("full").addEventListener("click", toggleFull);
onKeys({ s: toggleSound, f: toggleFull });
addEventListener("online", () => programme.hurry());
addEventListener("pagehide", () => {
  client.stop();
  programme.show("");
});

window.terraceStats = () => ({
  state: client.state, link: client.link, scene: scenes, programme: programme.state,
  framesDecoded: programme.framesDecoded, reconnects: programme.reconnects, ears: heard.states,
});
window.terrace = Object.freeze({ page: "room-hall", room, stats: window.terraceStats, client });

client.start();
setInterval(() => {
  drawClock(client);
  draw();
  if (performance.now() - stirredMs > IDLE_AFTER_MS) byId("hall").dataset.idle = "yes";
}, 1000);
draw();
