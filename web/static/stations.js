/** The county's stations: which will not play, what is on, the month; and pairing a new box. */

import { chip, drawMeter, html, icon, replaceIfChanged, svg } from "./drawing.js";
import { byId, nodeName, number, setText, t, tn, tokenForm } from "./page.js";
import { call } from "./station.js";
import { forecastInWords, shownInWords } from "./stationparts.js";
import { READINESS, faultInWords, lengthInWords } from "./stationwords.js";
import { Wall } from "./wallclock.js";

const ASK_EVERY_MS = 5000;
const STATES = ["red", "amber", "green", "grey"];
const ICONS = { red: "warn", amber: "info", green: "ready", grey: "off" };

const wall = new Wall(document.documentElement.lang, Intl.DateTimeFormat().resolvedOptions().timeZone);
const showTokenForm = tokenForm(() => look());

let stations = [];
let now = 0;
let only = "";
let isAnswered = false;

/* ---- the list ---- */

function isWanted(station) {
  const words = byId("find").value.trim().toLowerCase();
  const text = `${station.id} ${station.name} ${station.unit} ${station.group}`.toLowerCase();
  return (only === "" || station.state === only) && text.includes(words);
}

function nextOf(station) {
  const { next } = station;
  if (next === null) return html("div", "", "", html("small", "", t("station.coming.none")));
  const tone = READINESS[next.state] ?? READINESS.waiting;
  const words = html("span", "station-next", "", icon(tone.icon),
    html("span", "", forecastInWords(next, wall)));
  words.dataset.tone = tone.tone;
  const time = wall.sameDay(next.starts_at, now) ? wall.time(next.starts_at) : wall.dateTime(next.starts_at);
  return html("div", "", "", html("span", "", `${time}  ${next.title}`), words);
}

function monthOf({ month }) {
  const meter = svg("svg", { class: "small-meter", "aria-hidden": "true", focusable: "false" });
  drawMeter(meter, month.hours, month.target);
  const turnout = month.turnout === null ? t("stations.turnout.none")
    : t("stations.turnout", { percent: number(100 * month.turnout) });
  return html("div", "", "", html("span", "", t("station.hours.short", {
    hours: number(month.hours, 1), target: number(month.target),
  })), meter, html("small", "", turnout));
}

function row(station) {
  const link = html("a", "", station.name);
  link.href = `/stations/${encodeURIComponent(station.id)}`;
  const seen = station.seen_at === null ? t("stations.seen.never")
    : t("stations.seen", { length: lengthInWords(Math.max(1, now - station.seen_at)) });
  const name = html("div", "", "", link, html("small", "", [station.unit, station.id].filter(Boolean).join(" · ")),
    chip(station.state, ICONS[station.state], t(`station.state.${station.state}`)));
  const is = html("div", "", "",
    html("span", "", station.state === "grey" ? seen : station.current ? shownInWords(station.current) : "–"));
  const [first] = station.why;
  if (first) is.append(html("span", "station-why", faultInWords(first, wall)));
  if (station.why.length > 1) is.append(html("small", "", tn("stations.more", station.why.length - 1)));
  if (station.state !== "grey") is.append(html("small", "", seen));
  const made = html("li", "station", "", name, is, nextOf(station), monthOf(station));
  made.dataset.state = station.state;
  return made;
}

function showList() {
  const count = (state) => stations.filter((one) => one.state === state).length;
  replaceIfChanged(byId("states"), JSON.stringify([only, STATES.map(count), stations.length]), () =>
    ["", ...STATES].map((state) => {
      const words = state ? t(`station.state.${state}`) : t("stations.all");
      const button = html("button", "", "", ...(state ? [icon(ICONS[state])] : []),
        html("span", "", `${words} ${number(state ? count(state) : stations.length)}`));
      button.type = "button";
      button.setAttribute("aria-pressed", String(only === state));
      button.addEventListener("click", () => {
        only = state;
        showList();
        byId("states").children[STATES.indexOf(state) + 1].focus();
      });
      return button;
    }));
  const wanted = stations.filter(isWanted).sort((a, b) =>
    STATES.indexOf(a.state) - STATES.indexOf(b.state) || a.name.localeCompare(b.name));
  byId("empty").hidden = wanted.length > 0 || !isAnswered;
  setText(byId("empty"), t(stations.length ? "stations.none" : "stations.empty"));
  const focused = document.activeElement?.closest?.(".station a")?.getAttribute("href");
  byId("list").replaceChildren(...wanted.map(row));
  if (focused) byId("list").querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

/* ---- pairing ---- */

function openPairing(open) {
  byId("pair").hidden = !open;
  byId("pair-open").setAttribute("aria-expanded", String(open));
  if (open) {
    byId("code").focus();
    lookPairings();
  }
}

function pairHint(text, tone = "") {
  byId("pair-hint").dataset.tone = tone;
  setText(byId("pair-hint"), text);
}

const digits = () => byId("code").value.replace(/\D/g, "");

async function confirm() {
  const code = digits();
  const station = byId("pair-id").value.trim();
  if (code.length !== 6) {
    byId("code").focus();
    return pairHint(t("stations.pair.bad_code"), "bad");
  }
  if (!byId("pair-name").value.trim()) {
    byId("pair-name").focus();
    return pairHint(t("stations.pair.bad_name"), "bad");
  }
  if (!/^[a-z0-9][a-z0-9-]{0,63}$/.test(station)) {
    byId("pair-id").focus();
    return pairHint(t("stations.pair.bad_id"), "bad");
  }
  const { status, sentence } = await call(`/api/pairings/${code}/confirm`, {
    method: "POST",
    body: {
      station, name: byId("pair-name").value.trim(), unit: byId("pair-unit").value.trim(),
      group: byId("pair-group").value.trim(),
    },
  });
  if (status === 200) {
    pairHint(t("stations.pair.done", { name: byId("pair-name").value.trim() }), "good");
    byId("pair-form").reset();
    look();
  } else if (status === 404) {
    pairHint(t("stations.pair.unknown"), "bad");
  } else if (status === 409) {
    pairHint(t("stations.pair.taken", { id: station }), "bad");
  } else {
    pairHint(status === 0 ? t("stations.silent") : t("common.says", { sentence }), "bad");
  }
  return undefined;
}

async function lookPairings() {
  const { status, body } = await call("/api/pairings");
  if (status !== 200 || body === null) return;
  byId("pair-print").hidden = !body.fingerprint;
  setText(byId("pair-print"), t("stations.pair.print", { fingerprint: body.fingerprint ?? "" }));
  replaceIfChanged(byId("waiting"), JSON.stringify(body.pairings), () =>
    body.pairings.map((one) => html("li", "", "", icon("wait"), html("span", "", ` ${t("stations.pair.waits", {
      name: one.name || "–", address: one.address, time: wall.time(one.asked_at),
    })}`))));
}

/* ---- asking ---- */

async function look() {
  const { status, body, sentence } = await call("/api/stations");
  const refused = status === 401 || status === 403;
  showTokenForm(refused);
  byId("problem").hidden = status === 200;
  if (status === 200 && body !== null) {
    ({ stations, now } = body);
    isAnswered = true;
    showList();
  } else if (status === 404) {
    setText(byId("problem"), t("stations.not_here", { node: nodeName }));
  } else {
    setText(byId("problem"), status === 0 ? t("stations.silent")
      : refused ? t("stations.refused") : t("common.says", { sentence }));
  }
  byId("empty").hidden ||= status !== 200;
  if (!byId("pair").hidden) lookPairings();
}

async function run() {
  if (!document.hidden) await look();
  setTimeout(run, ASK_EVERY_MS);
}

byId("pair-open").addEventListener("click", () => openPairing(byId("pair").hidden));
byId("pair-form").addEventListener("submit", (event) => {
  event.preventDefault();
  confirm();
});
byId("code").addEventListener("input", () => {
  const figures = digits().slice(0, 6);
  byId("code").value = figures.length > 3 ? `${figures.slice(0, 3)} ${figures.slice(3)}` : figures;
});
byId("find").addEventListener("input", showList);

const asked = new URLSearchParams(location.search).get("code");
if (asked !== null) {
  byId("code").value = asked;
  byId("code").dispatchEvent(new Event("input"));
  openPairing(true);
  byId("pair-name").focus();
}

window.terraceStats = () => ({ stations, now });
window.terrace = Object.freeze({ page: "stations", stats: window.terraceStats });

run();
