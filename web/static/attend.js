/** The roll-call by a phone in the room: head count, names, and the phone's clock for a box in doubt. */

import { html, icon } from "./drawing.js";
import { byId, setIcon, setText, t } from "./page.js";
import { askScreen, call, roomCode } from "./station.js";
import { Wall } from "./wallclock.js";

const ASK_EVERY_MS = 10_000;
const MOST = 10_000;

let wall = new Wall(document.documentElement.lang, "UTC");
/** @type {{name: string, present: boolean}[]} */
let roll = [];
let item = null;
let isDirty = false;
let savedAt = null;

/* ---- the form ---- */

function count() {
  const text = byId("count").value.trim();
  return /^\d{1,5}$/.test(text) && Number(text) <= MOST ? Number(text) : null;
}

function setCount(value) {
  byId("count").value = value === null ? "" : String(Math.min(Math.max(value, 0), MOST));
}

function dirty() {
  isDirty = true;
  showSaved();
}

function showSaved(problem = "") {
  const place = byId("saved");
  place.dataset.tone = problem ? "bad" : isDirty ? "" : "good";
  if (problem) setText(place, problem);
  else if (isDirty || savedAt === null) setText(place, t("attend.unsaved"));
  else setText(place, t("attend.saved", { time: wall.time(savedAt) }));
}

function showRoll() {
  byId("roll-empty").hidden = roll.length > 0;
  const there = roll.filter(({ present }) => present).length;
  setText(byId("roll-sum"), roll.length ? t("attend.sum", { there, all: roll.length }) : "");
  byId("roll").replaceChildren(...roll.map((one, index) => {
    const name = html("button", "roll-name", "", icon(one.present ? "ready" : "off"), html("span", "", one.name),
      html("span", "roll-word", t(one.present ? "attend.present" : "attend.absent")));
    name.type = "button";
    name.setAttribute("aria-pressed", String(one.present));
    name.addEventListener("click", () => {
      one.present = !one.present;
      dirty();
      showRoll();
      byId("roll").children[index].firstElementChild.focus();
    });
    const away = html("button", "quiet", "×");
    away.type = "button";
    away.setAttribute("aria-label", t("attend.remove", { name: one.name }));
    away.addEventListener("click", () => {
      roll.splice(index, 1);
      dirty();
      showRoll();
    });
    return html("li", "", "", name, away);
  }));
}

function addName() {
  const field = byId("name");
  const name = field.value.trim();
  if (name && !roll.some((one) => one.name === name)) {
    roll.push({ name, present: true });
    dirty();
    showRoll();
  }
  field.value = "";
  field.focus();
}

/* ---- the box ---- */

function problem(text) {
  byId("problem").hidden = text === "";
  setText(byId("problem"), text);
}

function show(said) {
  item = said.item || null;
  roll = said.roll ?? [];
  savedAt = said.saved_at ?? null;
  isDirty = false;
  byId("form").hidden = item === null;
  byId("what-chip").dataset.state = item ? "live" : "waiting";
  setIcon("what-icon", item ? "people" : "wait");
  setText(byId("what"), item ? said.title : t("attend.nothing"));
  setCount(said.head_count ?? null);
  showRoll();
  showSaved();
}

async function load() {
  const { status, body, sentence } = await call(
    `/api/station/attendance?code=${encodeURIComponent(roomCode)}`);
  if (status === 200 && body !== null) {
    problem("");
    // What somebody is typing is not taken away by an answer.
    if (!isDirty || (body.item || null) !== item) show(body);
    return;
  }
  if (status === 403 || status === 401) {
    byId("form").hidden = true;
    setText(byId("what"), t("attend.old.short"));
    problem(t("attend.old"));
  } else {
    problem(status === 0 ? t("attend.silent") : t("attend.refused", { sentence }));
  }
}

async function save() {
  const typed = byId("count").value.trim();
  if (typed && count() === null) {
    byId("count").setAttribute("aria-invalid", "true");
    byId("count").focus();
    showSaved(t("attend.count.bad"));
    return;
  }
  byId("count").removeAttribute("aria-invalid");
  const { status, body, sentence } = await call("/api/station/attendance", {
    method: "POST", body: { code: roomCode, item, head_count: count(), roll },
  });
  if (status === 200 && body !== null) show(body);
  else if (status === 0) showSaved(t("attend.silent"));
  else showSaved(status === 403 ? t("attend.old") : t("attend.refused", { sentence }));
}

async function look() {
  const told = await askScreen();
  if (told !== null) {
    wall = new Wall(document.documentElement.lang, told.timeZone);
    setText(byId("station-name"), told.station.name || byId("station-name").textContent);
    setText(byId("county-name"), told.station.county);
    byId("clock").hidden = !told.clock.doubt;
    if (told.clock.doubt) {
      setText(byId("clock-words"), t("attend.clock.words", {
        box: wall.dateTime(told.now), phone: wall.dateTime(Date.now() / 1000),
      }));
    }
  }
  await load();
}

async function run() {
  if (!document.hidden) await look();
  setTimeout(run, ASK_EVERY_MS);
}

byId("less").addEventListener("click", () => (setCount((count() ?? 0) - 1), dirty()));
byId("more").addEventListener("click", () => (setCount((count() ?? 0) + 1), dirty()));
byId("five").addEventListener("click", () => (setCount((count() ?? 0) + 5), dirty()));
byId("count").addEventListener("input", dirty);
byId("add").addEventListener("click", addName);
byId("name").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  addName();
});
byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
byId("clock-set").addEventListener("click", async () => {
  await call("/api/station/time", {
    method: "POST", body: { code: roomCode, unix_s: Date.now() / 1000 },
  });
  look();
});
document.addEventListener("visibilitychange", () => document.hidden || look());

window.terraceStats = () => ({ item, roll, isDirty, savedAt });
window.terrace = Object.freeze({ page: "attend", stats: window.terraceStats });

run();
