/** The villages below this county during a meeting: which boxes follow it, and which need a hand. */

import { chip, html, icon, replaceIfChanged } from "./drawing.js";
import { RoomClient } from "./room-client.js";
import { drawClock, drawHead } from "./room-parts.js";
import { shownInWords } from "./stationparts.js";
import { faultInWords, lengthInWords } from "./stationwords.js";
import { call } from "./station.js";
import { byId, fillList, nodeName, number, setText, stream as room, t, tokenForm } from "./page.js";
import { Wall } from "./wallclock.js";

const ASK_EVERY_MS = 5000;
const STATES = ["red", "amber", "green", "grey"];
const ICONS = { red: "warn", amber: "info", green: "ready", grey: "off" };

const wall = new Wall(document.documentElement.lang, Intl.DateTimeFormat().resolvedOptions().timeZone);
const client = new RoomClient(room, "viewer", () => drawHead(client));
const showTokenForm = tokenForm(() => {
  client.hurry();
  look();
});

let stations = [];
let now = 0;
let only = "";
let isAnswered = false;

/** Whether a box shows this meeting now. */
const follows = ({ current }) => {
  const item = String(current?.item ?? "");
  return item.split(/\D+/).includes(String(room)) || (Boolean(current) && current.title === client.state.meeting?.title);
};

function box(station) {
  const link = html("a", "", station.name);
  link.href = `/stations/${encodeURIComponent(station.id)}`;
  const isThere = follows(station);
  const words = isThere ? t("room.villages.follows")
    : station.state === "grey" ? t("stations.seen", { length: lengthInWords(Math.max(1, now - (station.seen_at ?? 0))) })
    : station.current ? shownInWords(station.current) : t("room.villages.nothing");
  const made = html("li", "box", "",
    html("h2", "", "", link), html("p", "hint", station.unit),
    html("p", "chips", "", chip(isThere ? "live" : "calm", isThere ? "live" : "tv", words),
      chip(station.state, ICONS[station.state], t(`station.state.${station.state}`))));
  const [first] = station.why;
  if (first) made.append(html("p", "box-why", "", icon("warn"), html("span", "", faultInWords(first, wall))));
  made.dataset.state = station.state;
  made.dataset.follows = isThere ? "yes" : "no";
  return made;
}

function draw() {
  const there = stations.filter(follows).length;
  const red = stations.filter(({ state }) => state === "red").length;
  fillList(byId("figures"), [
    [t("room.villages.there"), t("room.villages.of", { n: number(there), of: number(stations.length) })],
    [t("room.villages.need"), number(red)],
    [t("room.villages.silent"), number(stations.filter(({ state }) => state === "grey").length)],
  ]);
  const choices = ["", "yes", "no"];
  replaceIfChanged(byId("only"), only, () => choices.map((one) => {
    const button = html("button", "", t(`room.villages.only.${one || "all"}`));
    button.type = "button";
    button.setAttribute("aria-pressed", String(one === only));
    button.addEventListener("click", () => {
      only = one;
      draw();
      byId("only").children[choices.indexOf(one)].focus();
    });
    return button;
  }));
  const wanted = stations.filter((one) => only === "" || follows(one) === (only === "yes"))
    .sort((a, b) => STATES.indexOf(a.state) - STATES.indexOf(b.state) || a.name.localeCompare(b.name));
  byId("empty").hidden = wanted.length > 0 || !isAnswered;
  replaceIfChanged(byId("boxes"), JSON.stringify([wanted, room, client.state.meeting?.title, Math.floor(now / 30)]), () => wanted.map(box));
}

async function look() {
  const { status, body, sentence } = await call("/api/stations");
  const refused = status === 401 || status === 403;
  showTokenForm(refused);
  byId("problem").hidden = status === 200;
  if (status === 200 && body !== null) {
    ({ stations, now } = body);
    isAnswered = true;
  } else {
    setText(byId("problem"), status === 404 ? t("stations.not_here", { node: nodeName })
      : status === 0 ? t("stations.silent") : refused ? t("stations.refused") : t("common.says", { sentence }));
  }
  draw();
}

async function run() {
  if (!document.hidden) await look();
  setTimeout(run, ASK_EVERY_MS);
}

window.terraceStats = () => ({ stations, link: client.link, state: client.state });
window.terrace = Object.freeze({ page: "room-villages", room, stats: window.terraceStats, client });

client.start();
setInterval(() => drawClock(client), 1000);
drawHead(client);
run();
