/**
 * A site in its meeting: the green room, the meeting, and today. What it sends stays at its own node
 * until somebody wants to see it; who sees and hears it stands at the top, always.
 */

import { levelWord, obstacle, permitted } from "./capture.js";
import { html, replaceIfChanged } from "./drawing.js";
import { showLevel } from "./level.js";
import { Ballots } from "./room-ballot.js";
import { RoomClient, keep, kept } from "./room-client.js";
import { lineTest, testRows } from "./room-linetest.js";
import { Ears, Picture, Wall } from "./room-media.js";
import {
  drawChat, drawClock, drawCurtain, drawHead, drawPlate, drawPoll, drawSlide, onKeys, sourceName,
  timeWords, toggleFull,
} from "./room-parts.js";
import { Sender } from "./room-sender.js";
import {
  clockWords, ears, isOn, isOver, isOwnProgramme, seconds, siteSource, standing, streamOf, verdict,
} from "./room-view.js";
import { byId, fillList, number, setIcon, setText, stream as room, t, token } from "./page.js";
import { onNewToken, problem, shownProblem } from "./problem.js";
import { attempt, have, listDevices, onTrack, picture, resizeCamera, size, sound, takeAll } from "./sources.js";

const asked = new URLSearchParams(location.search);
const site = Number(asked.get("site")) || null;
const role = ["presenter", "second", "screen"].includes(asked.get("as")) ? asked.get("as") : "";
const mine = role || (site ? siteSource(site) : "");
const person = Number(asked.get("person")) || null;
// A room's line is as thin tomorrow as today.
const SIZE_KEY = "terrace.room.size";
const ON_DEMAND = { "Terrace-Push": "on-demand" };

let view = "green";
let isChosen = false; // the person took a view; the meeting's beginning does not take it away
let handUp = false;
let handSince = 0;
let isMuted = false;
let isHidden = false;
let test = null;
let isTesting = false;

const client = new RoomClient(room, site ? `site:${site}` : person ? `person:${person}` : "viewer", drawChanged);
const ballots = new Ballots(client, room);
const programme = new Picture(byId("programme"), { label: t("room.programme"), changed: draw });
const heard = new Ears(byId("ears"));
const stage = new Wall(byId("stage"), (source, frame) => {
  const name = html("span", "tile-name");
  return html("div", "tile", "", frame, name);
});
const sender = new Sender(streamOf(room, mine), role ? {} : ON_DEMAND, () => ({
  video: picture(), audio: have.audio, codec: client.state.meeting?.codec ?? "VP8",
  maxBitrateBps: size().bitrateBps,
}), sendingChanged);

/* ---- what is sent ---- */

/** Nothing comes back any more, neither to what is sent nor of the events: the line is gone. */
const isCut = () => sender.isSilent && client.link !== "up";

const sending = () => ({
  isUp: sender.state === "up" && !isCut(),
  camera: picture() !== null,
  microphone: have.microphone !== null && !isMuted,
});

/** What is to be sent does not get to the node. */
const isOff = () => sender.state !== "off" && !sending().isUp;

let told = "";
let wasUp = false;

function sendingChanged() {
  const { camera, microphone } = sending();
  const now = JSON.stringify([camera, microphone, isHidden]);
  if (site && now !== told) client.media(camera, microphone, isHidden);
  told = now;
  // What was known before the line went is old: ask at once.
  if (!wasUp && sender.state === "up") client.hurry();
  wasUp = sender.state === "up";
  if (isCut() || sender.state === "down" || sender.state === "stopped") {
    const found = sender.failure?.kind ?? "lost";
    const isTheSame = found === "unreachable" && shownProblem() === "cut";
    const kind = isTheSame || ["lost", "absent"].includes(found) ? "cut" : found;
    if (shownProblem() !== kind) problem(kind, sender.failure?.says ?? "", sender.failure?.address);
  } else if (sender.state === "up" && ["cut", "unreachable", "blocked", "full", "taken_over"].includes(shownProblem())) {
    problem("");
  }
  draw();
}

onTrack(async (kind, track) => {
  if (mine && track && sender.state === "off") sender.start();
  await sender.replace(kind, track);
  sendingChanged();
});

function muteChanged() {
  isMuted = byId("mic-mute").getAttribute("aria-pressed") === "true";
  sendingChanged();
}

/* ---- the lamps: who sees and hears this place ---- */

const SIGNS = {
  seen: { all: "eye", host: "eye", no: "eyeoff" }, heard: { all: "mic", host: "mic", no: "micoff" },
};

function drawLamps() {
  byId("lamps").hidden = !mine;
  const now = standing(client.state, mine, sending());
  for (const kind of ["seen", "heard"]) {
    byId(`lamp-${kind}`).dataset.on = now[kind];
    setIcon(`lamp-${kind}-icon`, SIGNS[kind][now[kind]]);
    setText(byId(`lamp-${kind}-word`), t(`room.lamp.${kind}.${now[kind] === "no" ? "no" : "yes"}`));
  }
  const isSending = sending();
  const whySeen = now.seen !== "no" ? now.seen : !isSending.camera ? "camera" : !isSending.isUp ? "line" : "ready";
  const whyHeard = !isSending.microphone ? "microphone" : !isSending.isUp ? "line"
    : now.isMuted ? "muted" : now.heard === "no" ? "ready" : now.heard;
  setText(byId("lamp-seen-detail"), t(`room.lamp.by.${whySeen}`));
  setText(byId("lamp-heard-detail"), t(`room.lamp.by.${whyHeard}`));
  byId("lamp-live").dataset.on = now.isLive ? "all" : "no";
  setIcon("lamp-live-icon", now.isLive ? "live" : "off");
  setText(byId("lamp-live-word"), t(`room.lamp.live.${now.isLive ? "yes" : "no"}`));
  setText(byId("lamp-live-detail"), t(now.isLive ? "room.lamp.live.detail"
    : isOff() ? "room.lamp.by.line"
    : now.hasFloor ? "room.lamp.live.floor" : "room.lamp.live.wait"));
  byId("lamps").dataset.live = now.isLive ? "yes" : "no";
  byId("self-tag").hidden = !now.isLive;
  return now;
}

/* ---- the hand ---- */

function drawHand(now) {
  byId("hand-card").hidden = !site || isOver(client.state);
  const card = now.hasFloor ? (isOff() ? "cut" : "floor") : handUp ? "up" : "down";
  byId("hand-card").dataset.state = card;
  setText(byId("hand-word"), t(`room.hand.${card}.title`));
  const details = {
    floor: t(now.isMuted ? "room.hand.floor.muted" : "room.hand.floor.detail"),
    cut: t("room.hand.cut.detail"),
    up: t("room.hand.up.detail", { time: clockWords(client.now() - handSince) }),
    down: t("room.hand.down.detail"),
  };
  setText(byId("hand-detail"), details[card]);
  byId("hand-text").parentElement.hidden = card !== "down";
  byId("hand-button").hidden = now.hasFloor;
  byId("hand-button").setAttribute("aria-pressed", String(handUp));
  setText(byId("hand-button-word"), t(handUp ? "room.hand.lower" : "room.hand.raise"));
  // Who has the floor has been heard out: the hand is down again.
  if (now.hasFloor && handUp) raise(false);
}

function raise(up) {
  handUp = up;
  handSince = client.now();
  client.hand(up, up ? byId("hand-text").value.trim() : "");
  if (!up) byId("hand-text").value = "";
  draw();
}

/* ---- the roll-call ---- */

let answeredCall = "";

function drawCall() {
  const { rollcall } = client.state;
  const isCalled = Boolean(site) && rollcall?.site === site;
  const key = `${rollcall?.done}/${rollcall?.site}`;
  byId("rollcall-card").hidden = !isCalled || answeredCall === key;
  if (isCalled && client.isWaiting("rollcall")) setText(byId("rollcall-hint"), t("room.poll.sending"));
  else setText(byId("rollcall-hint"), t("room.called.detail"));
}

function answerCall() {
  const { rollcall } = client.state;
  client.rollCall("present", Number(byId("people").value) || 0);
  answeredCall = `${rollcall?.done}/${rollcall?.site}`;
  draw();
}

/* ---- the line test ---- */

const VERDICT_ICONS = { ready: "ready", none: "info", busy: "wait" };

function drawTest() {
  const word = isTesting ? "busy" : test ? verdict(test) : "none";
  byId("verdict").dataset.word = ["ready", "none", "busy"].includes(word) ? word : "todo";
  setIcon("verdict-icon", VERDICT_ICONS[word] ?? "warn");
  setText(byId("verdict-words"), t(`room.test.${word}`));
  fillList(byId("test-numbers"), test ? testRows(test) : []);
  setText(byId("test-start-word"), t(test ? "room.test.again" : "room.test.start"));
  byId("test-start").disabled = isTesting;
}

/** Did somebody hear the tone? A room that nobody answers for within the time has not heard it. */
function askSpeaker(withinMs) {
  byId("speaker-ask").hidden = false;
  return new Promise((resolve) => {
    const end = (yes) => {
      byId("speaker-ask").hidden = true;
      clearTimeout(timer);
      resolve(yes);
    };
    const timer = setTimeout(() => end(false), withinMs);
    byId("speaker-yes").onclick = () => end(true);
    byId("speaker-no").onclick = () => end(false);
  });
}

async function runTest() {
  if (isTesting) return;
  isTesting = true;
  drawTest();
  try {
    await attempt(takeAll);
    test = await lineTest({
      sender, stream: streamOf(room, mine), hasCamera: () => picture() !== null,
      measureSound: () => sound.measure(), levelWord, askSpeaker, mostBps: size().bitrateBps,
    });
    client.lineTest(test);
  } finally {
    isTesting = false;
    drawTest();
  }
}

/* ---- today ---- */

function drawToday() {
  const { meeting, order, counts } = client.state;
  if (!meeting) return;
  const now = client.now();
  const begins = seconds(meeting.starts_at);
  const ends = seconds(meeting.ends_at);
  setText(byId("countdown"), isOver(client.state) ? t("room.today.over")
    : isOn(client.state) ? t("room.today.left", { time: clockWords(ends - now) })
    : begins > now ? t("room.today.in", { time: clockWords(begins - now) }) : t("room.today.due"));
  const here = mine ? sourceName(client.state, mine) : "";
  fillList(byId("facts"), [
    [t("room.today.when"), `${timeWords(meeting.starts_at)}–${timeWords(meeting.ends_at)}`],
    [t("room.today.leads"), [meeting.presenter, meeting.unit].filter(Boolean).join(" · ") || "–"],
    ...(here ? [[t("room.today.here"), here]] : []),
    ...(counts ? [[t("room.today.there"), t("room.today.counts", { sites: number(counts.sites ?? 0), viewers: number(counts.viewers ?? 0) })]] : []),
    [t("room.test"), t(`room.test.${test ? verdict(test) : "none"}`)],
  ]);
  const sites = order?.sites ?? [];
  byId("order-box").hidden = sites.length === 0;
  replaceIfChanged(byId("order"), JSON.stringify([sites, order?.at, client.state.sources]), () => sites.map((one, index) => {
    const row = html("li", "", sourceName(client.state, siteSource(one)));
    if (index === order.at) row.setAttribute("aria-current", "true");
    row.dataset.mine = one === site ? "yes" : "no";
    return row;
  }));
}

/* ---- all of it ---- */

function take(next) {
  view = next;
  byId("room").dataset.view = view;
  for (const button of byId("views").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === view));
  }
  draw();
}

function drawStage() {
  const all = client.state.stage ?? [];
  // Of two on stage, each sees the other; who is not there sees both.
  const others = all.length < 2 ? [] : all.filter((one) => one !== mine);
  byId("stage").hidden = others.length === 0;
  stage.show(others.map((source) => ({ key: source, stream: streamOf(room, source) })));
  for (const source of others) {
    const tile = stage.tile(source);
    setText(tile.lastElementChild, sourceName(client.state, source));
    tile.dataset.programme = client.state.programme?.source === source ? "yes" : "no";
  }
  byId("stage").dataset.count = String(others.length);
}

function draw() {
  drawHead(client);
  const now = drawLamps();
  drawHand(now);
  drawCall();
  drawPoll(client);
  ballots.draw();
  drawChat(client.state);
  drawPlate(client.state);
  drawCurtain(client.state, programme);
  drawToday();
  byId("room").dataset.slides = byId("slide-box").hidden ? "no" : "yes";
  byId("tap").hidden = !(programme.soundIsBlocked || heard.soundIsBlocked);
}

let testAsked = null;

function linkChanged() {
  if (client.link === "refused") problem("forbidden", client.sentence);
  // What waits for a line need not wait any longer.
  if (client.link === "up") hurry();
  sendingChanged();
}

function drawChanged(changed) {
  const { state } = client;
  if (changed.includes("link")) linkChanged();
  if (changed.includes("meeting") && isOn(state) && !isChosen && view === "green") take("live");
  if (changed.includes("linetest") && state.linetest && state.linetest.asked_at !== testAsked) {
    testAsked = state.linetest.asked_at;
    if (client.now() - seconds(testAsked) < 120) runTest();
  }
  // Open a meeting's programme before it begins: then its first second is seen.
  programme.show(state.meeting && !isOver(state) ? streamOf(room) : "");
  programme.isQuiet = isOwnProgramme(state, mine);
  heard.hear(ears(state, mine).map((source) => streamOf(room, source)));
  if (changed.includes("stage") || changed.includes("sources") || changed.includes("programme")) drawStage();
  drawSlide(state, token()).then(draw);
  draw();
}

/* ---- what people do ---- */

for (const button of byId("views").querySelectorAll("button")) {
  button.addEventListener("click", () => {
    isChosen = true;
    take(button.dataset.view);
  });
}
byId("hand-button").addEventListener("click", () => raise(!handUp));
byId("mic-mute").addEventListener("click", muteChanged);
byId("rollcall-form").addEventListener("submit", (event) => {
  event.preventDefault();
  answerCall();
});
byId("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("chat-text").value.trim();
  if (!text) return;
  client.say(text);
  byId("chat-text").value = "";
  setText(byId("chat-hint"), t("room.chat.sent"));
});
byId("test-start").addEventListener("click", runTest);
byId("size").addEventListener("change", () => {
  keep(SIZE_KEY, byId("size").value);
  attempt(async () => {
    await resizeCamera();
    await sender.resize();
  });
});
byId("tap").addEventListener("click", () => {
  programme.allowSound();
  heard.allowSound();
  draw();
});
onKeys({
  1: () => byId("views").children[0].click(),
  2: () => byId("views").children[1].click(),
  3: () => byId("views").children[2].click(),
  h: () => byId("hand-button").hidden || byId("hand-card").hidden || byId("hand-button").click(),
  m: () => byId("mic-mute").disabled || byId("mic-mute").click(),
  t: () => byId("test-start").click(),
  p: () => byId("rollcall-card").hidden || answerCall(),
  s: () => byId("tap").hidden || byId("tap").click(),
  f: toggleFull,
});
onNewToken(() => {
  client.hurry();
  sender.stop();
  if (picture() || have.audio) sender.start();
});
document.addEventListener("visibilitychange", () => {
  isHidden = document.hidden;
  sendingChanged();
});
function hurry() {
  sender.hurry();
  programme.hurry();
}
addEventListener("online", hurry);
addEventListener("pagehide", () => {
  sender.stop();
  client.stop();
});

window.terraceStats = () => ({
  state: client.state, link: client.link, view, sender: sender.state, sample: sender.sample,
  programme: programme.state, framesDecoded: programme.framesDecoded, programmeQuiet: programme.isQuiet,
  reconnects: programme.reconnects, ears: heard.states, standing: standing(client.state, mine, sending()),
  handUp, problem: shownProblem(), test, levelDb: sound.measure()?.levelDb ?? null,
});
window.terrace = Object.freeze({ page: "room-site", room, stats: window.terraceStats, client, sender });

async function begin() {
  const cannot = mine ? obstacle() : "unneeded";
  for (const place of document.querySelectorAll(".self, .devices, .test")) place.hidden = !mine;
  byId("views").querySelector("[data-view=green]").hidden = !mine;
  if (!mine) take("live");
  drawTest();
  client.start();
  setInterval(() => {
    drawClock(client);
    drawToday();
    draw();
  }, 1000);
  draw();
  if (cannot === "unneeded") return;
  if (cannot) {
    problem(cannot);
    for (const control of document.querySelectorAll("#sources :is(input, select, button), #turn-on")) control.disabled = true;
    return;
  }
  const before = kept(SIZE_KEY);
  if ([...byId("size").options].some(({ value }) => value === before)) byId("size").value = before;
  showLevel();
  navigator.mediaDevices.addEventListener("devicechange", listDevices);
  await listDevices();
  if (await permitted()) await attempt(takeAll);
}

begin();
