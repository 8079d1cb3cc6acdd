/** The editor of a course or meeting: a form, the clash shown while somebody types, and ways out. */

import { all, ask, format, hereZone, me, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { sure } from "./change.js";
import { showClashes, waysOut } from "./clashwords.js";
import { html } from "./drawing.js";
import { byId, number, setText, stream, t } from "./page.js";
import { WEEKDAYS, nextDates, repeatOf, ruleOf, weekday } from "./repeats.js";
import { UnitPicker } from "./unitpicker.js";

const CHECK_AFTER_MS = 350;
const ZONES = ["Asia/Shanghai", "Asia/Urumqi", "Europe/Berlin", "America/New_York", "UTC"];

let seriesId = stream ? Number(stream) : null;
let stored = null;
let keptRule = ""; // a rule that the builder cannot show
let isClashing = false;
const picker = new UnitPicker(byId("audience"), changed);

/* ---- the form ---- */

function repeat() {
  return {
    every: byId("every").value,
    interval: Number(byId("interval").value) || 1,
    days: WEEKDAYS.filter((day) => byId(`day-${day}`).checked),
    end: byId("end").value,
    until: byId("until").value,
    count: Number(byId("count").value) || 1,
  };
}

function material() {
  return byId("material").value.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const at = line.search(/(https?:\/\/|\/)\S*$/);
    return at < 0 ? { title: line, url: line } : { title: line.slice(0, at).trim() || line.slice(at), url: line.slice(at) };
  });
}

const choice = (id) => (byId(id).value ? Number(byId(id).value) : null);

/** The plan as the API wants it. */
function plan() {
  const kept = stored ?? { source: "live", course: "", bitrate_bps: 1_000_000, excluded: [], added: [] };
  return {
    kind: byId("kind").value,
    title: byId("title").value.trim(),
    unit_id: Number(byId("unit").value),
    starts_local: `${byId("date").value}T${byId("time").value}:00`,
    duration_s: Math.round(Number(byId("minutes").value) * 60),
    time_zone: byId("zone").value,
    source: kept.source,
    presenter_id: choice("presenter"),
    room_id: choice("room"),
    rule: byId("every").value === "kept" ? keptRule : ruleOf(repeat()),
    rehearsal_s: Math.round(Number(byId("rehearsal").value) * 60),
    agenda: byId("agenda").value,
    material: material(),
    audience: picker.audience,
    course: kept.course,
    bitrate_bps: kept.bitrate_bps,
    excluded: kept.excluded,
    added: kept.added,
  };
}

/** What is not filled in yet: the first input, null if all is. */
function missing() {
  return ["title", "date", "time", "minutes"].map(byId).find((input) => !input.value.trim() || !input.checkValidity()) ?? null;
}

function drawRepeat() {
  const every = byId("every").value;
  byId("repeat-more").hidden = every === "" || every === "kept";
  byId("days").hidden = every !== "WEEKLY";
  byId("until-field").hidden = byId("end").value !== "until";
  byId("count-field").hidden = byId("end").value !== "count";
  if (every) setText(byId("interval-unit"), t(`centre.editor.interval.${every}`));
  const from = byId("date").value;
  const dates = from && every !== "kept" ? nextDates(from, repeat(), 6) : [];
  byId("preview").hidden = dates.length < 2;
  const words = format("UTC", { weekday: "short", day: "numeric", month: "short" });
  byId("dates").replaceChildren(...dates.map((date) => html("li", "", words.format(new Date(date)))));
  setText(byId("rule-kept"), every === "kept" ? t("centre.editor.kept", { rule: keptRule }) : "");
}

/* ---- the clash, while somebody types ---- */

let timer = 0;
let asking = null;

function changed() {
  drawRepeat();
  clearTimeout(timer);
  timer = setTimeout(check, CHECK_AFTER_MS);
}

async function check() {
  asking?.abort();
  if (missing() || !byId("unit").value) return showClashes(null, "wait", t("centre.editor.check.wait"));
  asking = new AbortController();
  try {
    const answer = await ask("/api/series/check", {
      method: "POST", body: { plan: plan(), series_id: seriesId }, signal: asking.signal,
    });
    tellField(answer);
    if (answer.status !== 200) return showClashes(null, "bad", refusal(answer));
    isClashing = answer.body.findings.some((one) => one.mine_yields);
    showClashes(answer.body, answer.body.findings.length ? "clash" : "good", "", byId("zone").value);
    return waysOut(answer.body.ways, byId("zone").value, { moveTo, leaveOut, focus: (id) => byId(id).focus() });
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return undefined;
  }
}

const FIELDS = { starts_local: "date", duration_s: "minutes", time_zone: "zone", rule: "every", presenter_id: "presenter", room_id: "room", rehearsal_s: "rehearsal" };

function tellField({ field }) {
  for (const input of byId("editor").querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  document.getElementById(FIELDS[field] ?? field)?.setAttribute("aria-invalid", "true");
}

function moveTo(moment) {
  const parts = format(byId("zone").value, {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", numberingSystem: "latn",
  }).formatToParts(new Date(moment));
  const of = (type) => parts.find((one) => one.type === type).value;
  byId("date").value = `${of("year")}-${of("month")}-${of("day")}`;
  byId("time").value = `${of("hour")}:${of("minute")}`;
  changed();
  byId("time").focus();
}

function leaveOut(paths) {
  for (const path of paths) picker.without(Number(path.split("/").at(-2)));
}

/* ---- saving ---- */

async function save() {
  const empty = missing();
  if (empty) {
    empty.setAttribute("aria-invalid", "true");
    empty.focus();
    say(t("centre.editor.missing"), "bad");
    return null;
  }
  const path = seriesId ? `/api/series/${seriesId}` : "/api/series";
  const anyway = seriesId && byId("anyway").checked ? 1 : "";
  const answer = await ask(asked(path, { anyway }), { method: seriesId ? "PUT" : "POST", body: plan() });
  if (answer.status !== 200 && answer.status !== 201) {
    tellField(answer);
    say(refusal(answer), "bad");
    return null;
  }
  take(answer.body.series);
  history.replaceState(null, "", `/centre/series/${seriesId}`);
  return answer.body;
}

function say(words, tone) {
  byId("said").hidden = words === "";
  byId("said").dataset.tone = tone;
  setText(byId("said"), words);
}

async function submit() {
  if ((await save()) === null) return;
  const anyway = byId("anyway").checked ? 1 : "";
  const answer = await ask(asked(`/api/series/${seriesId}/submit`, { anyway }), { method: "POST" });
  if (answer.status !== 200) return say(refusal(answer), "bad");
  take(answer.body.series);
  return say(t(`centre.editor.now.${answer.body.series.state}`, { n: number(answer.body.occurrences) }), "good");
}

async function cancel() {
  const answer = await ask(`/api/series/${seriesId}/cancel`, { method: "POST" });
  byId("cancel-sure").close();
  if (answer.status !== 200) return say(refusal(answer), "bad");
  take(answer.body);
  return say(t("centre.editor.now.cancelled"), "good");
}

async function remove() {
  if (!(await sure(t("centre.editor.remove.sure", { title: stored.title }), t("centre.editor.remove")))) return undefined;
  const answer = await ask(`/api/series/${seriesId}`, { method: "DELETE" });
  return answer.status === 204 ? location.assign("/centre/plans") : say(refusal(answer), "bad");
}

/** Take what the centre stored. */
function take(series) {
  seriesId = series.id;
  stored = series.plan;
  const state = series.state;
  byId("state").hidden = false;
  byId("state").dataset.state = { confirmed: "live", submitted: "waiting", refused: "lost", cancelled: "lost" }[state] ?? "calm";
  setText(byId("state-word"), t(`centre.all.series.${state}`));
  byId("submit").hidden = !["draft", "refused"].includes(state);
  setText(byId("save-word"), t(state === "confirmed" ? "centre.editor.save.confirmed" : "centre.editor.save"));
  byId("save").hidden = state === "cancelled";
  byId("cancel").hidden = !["submitted", "confirmed"].includes(state);
  byId("remove").hidden = !["draft", "refused", "cancelled"].includes(state);
  byId("refusal").hidden = !series.refusal;
  setText(byId("refusal"), series.refusal ? t("centre.editor.refused", { reason: series.refusal }) : "");
  setText(byId("heading"), t("centre.editor.change"));
}

/* ---- opening ---- */

function option(select, value, words) {
  if (![...select.options].some((one) => one.value === String(value))) select.append(new Option(words, value));
}

async function fillUnits() {
  const mine = [];
  for (const path of me.may.plan ?? []) {
    const id = Number(path.split("/").at(-2));
    const { status, body } = await ask(`/api/units/${id}`);
    if (status === 200) mine.push(body, ...(await all(`/api/units?parent_id=${id}`, 500)));
  }
  for (const unit of mine) option(byId("unit"), unit.id, unit.name);
  if (stored) {
    const { status, body } = await ask(`/api/units/${stored.unit_id}`);
    if (status === 200) option(byId("unit"), body.id, body.name);
  }
  return mine;
}

async function fillOfUnit() {
  const unit = byId("unit").value;
  if (!unit) return;
  const chosen = { presenter: byId("presenter").value, room: byId("room").value };
  const [people, rooms] = await Promise.all([
    all(`/api/presenters?unit_id=${unit}`, 500), all(`/api/sites?unit_id=${unit}`, 500),
  ]);
  for (const [id, items] of [["presenter", people], ["room", rooms]]) {
    byId(id).replaceChildren(new Option(t("centre.editor.none"), ""), ...items.map((one) => new Option(one.name, one.id)));
    const wanted = stored?.[`${id}_id`] ?? chosen[id];
    if (wanted) option(byId(id), wanted, t("centre.editor.other"));
    byId(id).value = String(wanted ?? "");
  }
}

function fill(one) {
  const values = {
    kind: one.kind, title: one.title, unit: one.unit_id, zone: one.time_zone, agenda: one.agenda,
    date: one.starts_local.slice(0, 10), time: one.starts_local.slice(11, 16),
    minutes: one.duration_s / 60, rehearsal: one.rehearsal_s / 60,
    material: one.material.map(({ title, url }) => (title === url ? url : `${title} ${url}`)).join("\n"),
  };
  option(byId("zone"), one.time_zone, one.time_zone);
  for (const [id, value] of Object.entries(values)) byId(id).value = String(value);
  const known = repeatOf(one.rule);
  if (known === null) {
    keptRule = one.rule;
    option(byId("every"), "kept", t("centre.editor.every.kept"));
    byId("every").value = "kept";
    return;
  }
  for (const id of ["every", "interval", "end", "until", "count"]) byId(id).value = String(known[id]);
  for (const day of WEEKDAYS) byId(`day-${day}`).checked = known.days.includes(day);
}

function fillNew() {
  const tomorrow = new Date(Date.now() + 86_400_000);
  byId("date").value = new Intl.DateTimeFormat("sv", { timeZone: byId("zone").value }).format(tomorrow);
  byId("time").value = "09:00";
  byId(`day-${WEEKDAYS[weekday(byId("date").value)]}`).checked = true;
}

async function open() {
  for (const zone of new Set([hereZone, ...ZONES])) option(byId("zone"), zone, zone);
  if (seriesId) {
    const answer = await ask(`/api/series/${seriesId}`);
    if (answer.status !== 200) return problem(refusal(answer));
    take(answer.body);
  }
  const mine = await fillUnits();
  const home = mine.find((unit) => unit.id === me.person.unit_id) ?? mine[0];
  if (!home && !stored) return problem(t("centre.editor.noright"));
  if (stored) fill(stored);
  else {
    byId("unit").value = String(home.id);
    option(byId("zone"), home.time_zone, home.time_zone);
    byId("zone").value = home.time_zone;
    fillNew();
  }
  await Promise.all([fillOfUnit(), picker.open(stored?.audience ?? [])]);
  byId("editor").hidden = false;
  if (!stored) byId("title").focus();
  return changed();
}

byId("editor").addEventListener("input", changed);
byId("unit").addEventListener("change", fillOfUnit);
byId("editor").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
byId("save").addEventListener("click", async () => {
  const saved = await save();
  if (saved) say(t("centre.editor.saved"), "good");
});
byId("remove").addEventListener("click", remove);
byId("cancel").addEventListener("click", () => byId("cancel-sure").showModal());
byId("cancel-no").addEventListener("click", () => byId("cancel-sure").close());
byId("cancel-yes").addEventListener("click", cancel);

window.terraceStats = () => ({ seriesId, isClashing, state: byId("check").dataset.state });
open();
