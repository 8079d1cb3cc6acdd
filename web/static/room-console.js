/** The director's console: preview and programme, CUT, the sources, and all that is asked of sites. */

import { Desk } from "./room-desk.js";
import { RoomClient } from "./room-client.js";
import { Picture, Wall } from "./room-media.js";
import { Panels } from "./room-panels.js";
import { drawClock, drawHead, onKeys, sourceName } from "./room-parts.js";
import { Queue } from "./room-queue.js";
import { SlideDesk } from "./room-slidedesk.js";
import { clockWords, isEnded, isOn, isOver, seconds, siteOf, speakers, streamOf } from "./room-view.js";
import { html } from "./drawing.js";
import { byId, fillList, number, setIcon, setText, setToken, stream as room, t } from "./page.js";

const OWN = ["presenter", "second", "screen", "file"];
const ICONS = { presenter: "people", second: "people", screen: "screen", file: "film" };
const MOST_IN_BANK = 9;
const MOST_WANTED = 16;

let preview = "";
let wasOffered = false; // the preview was among the sources
let before = "";
let isCutting = false;
let hasEnded = false; // before the room's state says so
let listens = false;
let monitors = false;
let wantedTold = "{}";

const desk = new Desk(draw);
const client = new RoomClient(room, "viewer", changed);
const queue = new Queue(desk, client, take);
const slides = new SlideDesk(desk, client);
const panels = new Panels(desk, client, take);
const previewPicture = new Picture(byId("preview-frame"), { label: t("room.console.preview"), isQuiet: true, changed: draw });
const programmePicture = new Picture(byId("programme-frame"), { label: t("room.console.programme"), isQuiet: true, changed: draw });
const bank = new Wall(byId("bank"), (source, frame) => {
  const made = html("button", "source", "", frame, html("kbd"), html("span", "source-name"), html("span", "source-tags"));
  made.type = "button";
  made.addEventListener("click", () => take(source));
  made.addEventListener("dblclick", () => cut(source));
  return made;
});

/* ---- preview and programme ---- */

/** What can be cut to: the meeting's own sources that are there, and the sites that have a part. */
function sources() {
  const { state } = client;
  const told = new Map((desk.told?.sources ?? []).map((one) => [one.id, one]));
  for (const one of state.sources ?? []) told.set(one.id, one);
  const own = OWN.filter((source) => told.get(source)?.live || state.programme?.source === source);
  const sites = [
    ...speakers(state).map(({ source }) => source), ...(state.stage ?? []),
    ...(siteOf(state.programme?.source) ? [state.programme.source] : []), ...(siteOf(preview) ? [preview] : []),
  ].filter((source) => siteOf(source) !== null);
  return [...own, ...new Set(sites)].slice(0, MOST_IN_BANK);
}

function take(source) {
  if (preview !== source) listens = false;
  preview = source;
  wasOffered = false;
  draw();
}

/** A film that is over, or a presenter who has left, is no preview any more. */
function dropPreview() {
  const isOffered = !isOver(client.state) && sources().includes(preview);
  if (wasOffered && !isOffered) take("");
  else wasOffered = isOffered;
}

async function cut(source = preview) {
  if (!source || isCutting || !isOn(client.state)) return;
  isCutting = true;
  draw();
  before = client.state.programme?.source ?? "";
  const { isDone } = await desk.tell("PUT", "programme", { source, muted: false });
  isCutting = false;
  // What was on air is the next thing to go back to.
  if (isDone) take(before && before !== source ? before : "");
  draw();
}

/** Only what is looked at comes up the tree: the preview whole, small pictures small. */
function tellWanted() {
  if (!isOn(client.state)) return;
  const wanted = {};
  for (const source of [...queue.wanted, ...panels.wanted]) wanted[source] = "low";
  if (siteOf(preview) !== null) wanted[preview] = "full";
  const sources = Object.fromEntries(Object.entries(wanted).slice(-MOST_WANTED));
  const told = JSON.stringify(sources);
  if (told === wantedTold) return;
  wantedTold = told;
  desk.tell("PUT", "wanted", sources);
}

function drawMonitors() {
  const { state } = client;
  const { programme } = state;
  previewPicture.show(preview && isOn(state) ? streamOf(room, preview) : "");
  previewPicture.isQuiet = !listens;
  byId("preview-monitor").dataset.on = preview && previewPicture.isThere ? "yes" : "no";
  setText(byId("preview-empty"), t(preview ? "room.console.preview.coming" : "room.console.preview.empty"));
  byId("preview-plate").hidden = !preview;
  setText(byId("preview-plate"), preview ? sourceName(state, preview) : "");
  byId("listen").hidden = !preview;
  byId("listen").setAttribute("aria-pressed", String(listens));
  setIcon("listen-icon", listens ? "sound" : "muted");

  programmePicture.show(state.meeting && !isOver(state) ? streamOf(room) : "");
  programmePicture.isQuiet = !monitors;
  const isAir = isOn(state) && Boolean(programme?.source);
  byId("programme-monitor").dataset.on = !isOver(state) && programmePicture.isThere ? "yes" : "no";
  byId("programme-monitor").dataset.air = isAir ? (programme.lost ? "lost" : "yes") : "no";
  byId("programme-monitor").dataset.muted = programme?.muted ? "yes" : "no";
  setText(byId("programme-empty"), t(programme?.lost ? "room.console.programme.lost"
    : programme?.source ? "room.console.programme.coming" : "room.console.programme.empty"));
  byId("programme-plate").hidden = !programme?.source;
  setText(byId("programme-plate"), programme?.source
    ? `${sourceName(state, programme.source)}${programme.muted ? ` · ${t("room.console.muted")}` : ""}` : "");
  byId("monitor").setAttribute("aria-pressed", String(monitors));
  setIcon("monitor-icon", monitors ? "sound" : "muted");
  byId("cut").disabled = !preview || isCutting || !isOn(state) || programme?.source === preview;
  byId("cut").setAttribute("aria-busy", String(isCutting));
  byId("programme-mute").disabled = !programme?.source;
  byId("programme-mute").setAttribute("aria-pressed", String(Boolean(programme?.muted)));
  setText(byId("programme-mute").querySelector("span"), t(programme?.muted ? "room.console.unmute" : "room.console.mute"));
  byId("home").disabled = !isOn(state) || programme?.source === "presenter";
}

function drawBank() {
  const { state } = client;
  const list = sources();
  byId("bank-empty").hidden = list.length > 0;
  const isLive = new Set([...(state.sources ?? []), ...(desk.told?.sources ?? [])].filter(({ live }) => live).map(({ id }) => id));
  bank.show(list.map((source) => ({ key: source, stream: isLive.has(source) ? streamOf(room, source) : "" })));
  list.forEach((source, index) => {
    const tile = bank.tile(source);
    const isAir = state.programme?.source === source;
    const turn = state.floor?.[source];
    tile.dataset.air = isAir ? "yes" : "no";
    tile.dataset.preview = preview === source ? "yes" : "no";
    tile.setAttribute("aria-pressed", String(preview === source));
    setText(tile.children[1], String(index + 1));
    setText(tile.children[2], sourceName(state, source));
    const tags = [
      ...(isAir ? [t("room.console.on_air")] : []), ...(preview === source ? [t("room.console.preview")] : []),
      ...(turn ? [t(turn.lost ? "room.console.lost" : turn.muted ? "room.console.muted" : "room.console.heard")] : []),
      ...(isLive.has(source) || siteOf(source) !== null ? [] : [t("room.console.away")]),
    ];
    setText(tile.children[3], tags.join(" · "));
    tile.dataset.kind = ICONS[source] ?? "site";
  });
}

/* ---- who was lost: one button ---- */

function drawLost() {
  const [first] = desk.told?.attention ?? [];
  byId("lost").hidden = !first || !isOn(client.state);
  if (byId("lost").hidden) return;
  const name = sourceName(client.state, first.source);
  byId("lost").dataset.what = first.what;
  setText(byId("lost-words"), t(`room.lost.${first.what}`, { name }));
  byId("lost-button").hidden = first.do === "wait";
  if (first.do !== "wait") setText(byId("lost-button-word"), t(`room.lost.do.${first.do === "cut" ? "cut" : "take"}`, { name }));
}

function settle() {
  const [first] = desk.told?.attention ?? [];
  if (!first) return;
  if (first.do === "cut") desk.tell("PUT", "programme", { source: first.source, muted: false });
  else desk.tell("DELETE", `floor/${first.source}`);
}

/* ---- all of it ---- */

function draw() {
  const { state } = client;
  drawHead(client);
  if (state.meeting) setText(byId("under"), [state.meeting.unit, state.meeting.presenter].filter(Boolean).join(" · "));
  const counts = state.counts ?? {};
  fillList(byId("counts"), [
    [t("room.console.count.sites"), number(counts.sites ?? 0)],
    [t("room.console.count.viewers"), number(counts.viewers ?? 0)],
    [t("room.console.count.hands"), number(counts.hands ?? 0)],
  ]);
  byId("open").hidden = !state.meeting || isOn(state) || isEnded(state) || hasEnded;
  byId("minutes").hidden = !isOver(state);
  byId("close").hidden = !isOn(state);
  byId("problem").hidden = desk.sentence === "";
  setText(byId("problem"), desk.sentence && t("room.console.refused", { sentence: desk.sentence }));
  drawMonitors();
  drawBank();
  drawLost();
  queue.draw();
  slides.draw();
  panels.draw();
  tellWanted();
}

function changed() {
  draw();
}

function tick() {
  dropPreview();
  const { programme } = client.state;
  drawClock(client);
  setText(byId("programme-since"), programme?.source && programme.since
    ? clockWords(client.now() - seconds(programme.since)) : "");
  queue.draw();
  panels.tick();
}

function muteProgramme() {
  const { programme } = client.state;
  if (programme?.source) desk.tell("PUT", "programme", { source: programme.source, muted: !programme.muted });
}

function toggleListen() {
  listens = !listens;
  if (listens) previewPicture.allowSound();
  draw();
}

function toggleMonitor() {
  monitors = !monitors;
  if (monitors) programmePicture.allowSound();
  draw();
}

/** Close the room; a meeting that is on the air is ended with it, unless it is to go on later. */
async function adjourn() {
  const ends = byId("close-ends").checked && client.state.meeting.state === "on_air";
  const { isDone } = await desk.tell("POST", "close");
  if (isDone && ends) hasEnded = (await desk.end()).isDone;
  draw();
}

function takeBackLast() {
  const last = speakers(client.state).findLast(({ source }) => siteOf(source) !== null);
  if (last) queue.take(last.source);
}

byId("cut").addEventListener("click", () => cut());
byId("programme-mute").addEventListener("click", muteProgramme);
byId("home").addEventListener("click", () => cut("presenter"));
byId("listen").addEventListener("click", toggleListen);
byId("monitor").addEventListener("click", toggleMonitor);
byId("lost-button").addEventListener("click", settle);
byId("open").addEventListener("click", () => desk.tell("POST", "open"));
byId("close").addEventListener("click", () => byId("close-sure").showModal());
byId("close-no").addEventListener("click", () => byId("close-sure").close());
byId("close-yes").addEventListener("click", () => {
  byId("close-sure").close();
  adjourn();
});

onKeys({
  Enter: () => byId("cut").disabled || cut(),
  0: () => byId("home").disabled || cut("presenter"),
  ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => [n, () => sources()[n - 1] && take(sources()[n - 1])])),
  ArrowRight: () => slides.flip(1),
  ArrowLeft: () => slides.flip(-1),
  l: () => byId("listen").hidden || toggleListen(),
  s: toggleMonitor,
  m: muteProgramme,
  h: () => queue.giveNext(),
  t: takeBackLast,
  z: () => byId("lost").hidden || byId("lost-button").hidden || settle(),
  ...panels.keys,
});

window.terraceStats = () => ({
  state: client.state, link: client.link, told: desk.told, preview, isCutting,
  programme: programmePicture.state, framesDecoded: programmePicture.framesDecoded,
  previewState: previewPicture.state, problem: desk.sentence,
});
window.terrace = Object.freeze({ page: "room-console", room, stats: window.terraceStats, client });

async function begin() {
  await desk.begin();
  const { body } = await desk.tell("GET", "pass?role=viewer");
  if (body?.token) setToken(body.token);
  client.start();
  setInterval(tick, 1000);
  draw();
}

begin();
