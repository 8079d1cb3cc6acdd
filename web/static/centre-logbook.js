/** The logbook of a unit: the classes that it attended in a period, to print and sign. */

import { ask, format, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { html } from "./drawing.js";
import { byId, number, setText, t } from "./page.js";
import { openPeriod, period } from "./period.js";
import { UnitChooser } from "./unitchooser.js";

let unit = null;
let entries = [];

const hours = (seconds) => number(seconds / 3600, 2);

function row(one) {
  const day = format(one.time_zone, { year: "numeric", month: "short", day: "numeric", weekday: "short" });
  const time = format(one.time_zone, { hour: "2-digit", minute: "2-digit" });
  const starts = new Date(one.starts_at);
  const name = html("th", "", `${day.format(starts)} ${time.format(starts)}`);
  name.scope = "row";
  return html("tr", "", "", name, html("td", "words", one.title),
    ...[number(one.people), hours(one.live_s), hours(one.replay_s), hours(one.class_s)].map((words) => html("td", "", words)));
}

async function look() {
  const days = period();
  if (!unit || !days) return;
  const { from, to } = days;
  const answer = await ask(asked(`/api/attendance/${unit.id}/logbook`, { from, to }));
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  entries = answer.body;
  setText(byId("name"), t("centre.attendance.logbook.of", { name: unit.name }));
  setText(byId("days"), `${from} – ${to}`);
  byId("entries").replaceChildren(...entries.map(row));
  const sum = (key) => entries.reduce((total, one) => total + one[key], 0);
  setText(byId("sum-people"), number(sum("people")));
  for (const key of ["live", "replay", "class"]) setText(byId(`sum-${key}`), hours(sum(`${key}_s`)));
  byId("empty").hidden = entries.length > 0;
  byId("csv").setAttribute("href", asked(`/api/attendance/${unit.id}/logbook.csv`, { from, to }));
}

const query = new URLSearchParams(location.search);
const chooser = new UnitChooser(byId("unit"), "see", (one) => {
  unit = one;
  look();
});
for (const [id, month] of [["from-month", query.get("since")], ["to-month", query.get("until")]]) {
  if (/^\d{4}-\d{2}$/.test(month ?? "")) byId(id).value = month;
}
openPeriod(look);
byId("print").addEventListener("click", () => print());
window.terraceStats = () => ({ entries });
if (!(await chooser.go(Number(query.get("unit")) || 0))) problem(t("centre.attendance.none"));
