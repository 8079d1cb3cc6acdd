/** What one date of a series has of its own: moved, changed, cancelled, or as the plan again. */

import { all, ask, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { sure } from "./change.js";
import { finding } from "./clashwords.js";
import { byId, setText, stream, t } from "./page.js";

const PATH = `/api/occurrences/${stream}`;

let series = null;
let single = null; // what is stored for this date
let opened = ""; // what the form was filled for: only news from the centre fills it again

const choice = (id) => (byId(id).value ? Number(byId(id).value) : null);

function say(words, tone = "good") {
  byId("single-said").hidden = words === "";
  byId("single-said").dataset.tone = tone;
  setText(byId("single-said"), words);
}

async function fillChoices(unitId, chosen) {
  const [people, rooms] = await Promise.all([
    all(`/api/presenters?unit_id=${unitId}`, 500), all(`/api/sites?unit_id=${unitId}`, 500),
  ]);
  for (const [id, items, wanted] of [["single-presenter", people, chosen.presenter_id], ["single-room", rooms, chosen.room_id]]) {
    byId(id).replaceChildren(...items.map((one) => new Option(one.name, one.id)));
    // A date cannot be without what its plan has, so "nobody" is there only where the plan says so.
    if (wanted === null) byId(id).prepend(new Option(t("centre.editor.none"), ""));
    else if (!items.some((one) => one.id === wanted)) byId(id).prepend(new Option(t("centre.editor.other"), wanted));
    byId(id).value = String(wanted ?? "");
  }
}

/** Show the form for an occurrence, if it can be changed still and by this person. */
export async function openSingle(stage) {
  const { occurrence: one } = stage;
  const isCancelled = one.state === "cancelled";
  const canChange = stage.may.includes("plan") && (one.state === "planned" || isCancelled);
  if (!canChange) {
    byId("single").hidden = true;
    return;
  }
  const key = JSON.stringify([one.starts_at, one.ends_at, one.title, one.state, one.presenter_id, one.room_id]);
  if (opened === key) return;
  opened = key;
  const answer = await ask(`/api/series/${one.series_id}`);
  // Where the whole series is cancelled, no date of it comes back.
  if (answer.status !== 200 || answer.body.state === "cancelled") {
    byId("single").hidden = true;
    return;
  }
  series = answer.body;
  single = series.edits.find((edit) => edit.recurrence === one.recurrence) ?? null;
  const starts = single?.starts_local ?? one.recurrence;
  byId("single-date").value = starts.slice(0, 10);
  byId("single-time").value = starts.slice(11, 16);
  byId("single-minutes").value = String((single?.duration_s ?? series.plan.duration_s) / 60);
  byId("single-name").value = one.title;
  byId("single-form").hidden = isCancelled;
  byId("single-back-field").hidden = single === null;
  byId("single-findings").replaceChildren();
  byId("single-anyway-field").hidden = true;
  setText(byId("single-hint"), t(isCancelled ? "centre.occurrence.single.gone" : "centre.occurrence.single.hint", { zone: one.time_zone }));
  if (!isCancelled) await fillChoices(series.plan.unit_id, one);
  byId("single").hidden = false;
}

/** What differs from the plan; the API takes nothing else for a change. */
function edit(one) {
  const { plan } = series;
  const starts = `${byId("single-date").value}T${byId("single-time").value}:00`;
  const seconds = Math.round(Number(byId("single-minutes").value) * 60);
  const title = byId("single-name").value.trim();
  const presenter = choice("single-presenter");
  const room = choice("single-room");
  return {
    starts_local: starts === one.recurrence ? null : starts,
    duration_s: seconds === plan.duration_s ? null : seconds,
    title: title === plan.title ? null : title,
    presenter_id: presenter === plan.presenter_id ? null : presenter,
    room_id: room === plan.room_id ? null : room,
  };
}

async function send(body, words, changed) {
  const anyway = byId("single-anyway").checked ? 1 : "";
  const answer = await ask(asked(PATH, { anyway }), { method: "PATCH", body });
  const clashes = answer.body?.clashes;
  byId("single-findings").replaceChildren(...(clashes?.findings ?? []).slice(0, 5).map((one) => finding(one, series.plan.time_zone)));
  byId("single-anyway-field").hidden = !clashes;
  byId("single-anyway").checked = false;
  if (answer.status !== 200) return say(clashes ? t("centre.occurrence.single.clash") : refusal(answer), "bad");
  say(words);
  opened = "";
  return changed();
}

/** Wire the form. stage: gives what is shown now; changed: called after a change. */
export function wireSingle(stage, changed) {
  byId("single-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const empty = ["single-name", "single-date", "single-time", "single-minutes"].map(byId).find((input) => !input.value.trim() || !input.checkValidity());
    for (const input of byId("single-form").elements) input.removeAttribute("aria-invalid");
    if (empty) {
      empty.setAttribute("aria-invalid", "true");
      empty.focus();
      return say(t("centre.editor.missing"), "bad");
    }
    return send(edit(stage().occurrence), t("centre.occurrence.single.saved"), changed);
  });
  byId("single-cancel").addEventListener("click", async () => {
    if (!(await sure(t("centre.occurrence.single.cancel.sure"), t("centre.occurrence.single.cancel")))) return;
    send({ cancelled: true }, t("centre.occurrence.single.cancelled"), changed);
  });
  byId("single-back").addEventListener("click", () => send({}, t("centre.occurrence.single.taken"), changed));
}
