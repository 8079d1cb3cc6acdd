/** The attendance board: what each part of a unit attended, as bars, numbers and a table. */

import { ask, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { html, svg } from "./drawing.js";
import { byId, number, setText, t } from "./page.js";
import { openPeriod, period } from "./period.js";
import { UnitChooser } from "./unitchooser.js";

const ROW = 52;
const MOST_BARS = 40;

let unit = null;
let rows = [];

const hours = (seconds) => number(seconds / 3600, 1);
const duty = ({ met, owing }) => (owing ? `${number(met)} / ${number(owing)}` : "–");

/** One bar for each part: live and replay beside each other, the longest is as wide as the place. */
function drawBars(parts) {
  const most = Math.max(1, ...parts.map(({ total }) => total.live_s + total.replay_s));
  byId("bars").setAttribute("height", String(Math.max(1, parts.length) * ROW));
  byId("bars").replaceChildren(...parts.flatMap(({ unit: one, total }, index) => {
    const y = index * ROW;
    const live = (100 * total.live_s) / most;
    const replay = (100 * total.replay_s) / most;
    const words = t("centre.attendance.bar", { name: one.name, live: hours(total.live_s), replay: hours(total.replay_s) });
    return [
      svg("text", { x: 0, y: y + 16 }, one.name),
      svg("text", { class: "bar-value", x: "100%", y: y + 16, "text-anchor": "end" }, `${hours(total.live_s + total.replay_s)} h`),
      svg("rect", { class: "bar-ground", x: 0, y: y + 24, width: "100%", height: 16, rx: 3 }),
      svg("rect", { class: "bar-live", x: 0, y: y + 24, width: `${live}%`, height: 16 }, ""),
      svg("rect", { class: "bar-replay", x: `${live}%`, y: y + 28, width: `${replay}%`, height: 8 }, ""),
      svg("title", {}, words),
    ];
  }));
  setText(byId("bars-say"), parts.map(({ unit: one, total }) =>
    t("centre.attendance.bar", { name: one.name, live: hours(total.live_s), replay: hours(total.replay_s) })).join(" "));
}

function drawTable() {
  byId("table").replaceChildren(...rows.map(({ unit: one, total }, index) => {
    const name = html("th");
    name.scope = "row";
    if (index === 0) name.textContent = t("centre.attendance.all", { name: one.name });
    else {
      const link = html("a", "", one.name);
      link.href = `/centre/attendance?unit=${one.id}`;
      name.append(link);
    }
    return html("tr", "", "", name, ...[
      number(total.units), number(total.classes), number(total.people),
      hours(total.live_s), hours(total.replay_s), duty(total),
    ].map((words) => html("td", "", words)));
  }));
}

function drawFigures({ total }) {
  const figures = {
    hours: hours(total.live_s + total.replay_s), classes: number(total.classes),
    people: number(total.people), duty: duty(total),
  };
  for (const [id, words] of Object.entries(figures)) setText(byId(`figure-${id}`), words);
}

async function look() {
  const days = period();
  if (!unit || !days) return;
  const answer = await ask(asked("/api/attendance/totals", { unit_id: unit.id, ...days }));
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  rows = answer.body;
  history.replaceState(null, "", `/centre/attendance?unit=${unit.id}`);
  drawFigures(rows[0]);
  const parts = rows.slice(rows.length > 1 ? 1 : 0);
  const length = ({ total }) => total.live_s + total.replay_s;
  drawBars([...parts].sort((a, b) => length(b) - length(a)).slice(0, MOST_BARS));
  drawTable();
  byId("csv").setAttribute("href", asked("/api/attendance/duty.csv", { unit_id: unit.id, ...days }));
  byId("logbook").setAttribute("href", `/centre/logbook?unit=${unit.id}&since=${byId("from-month").value}&until=${byId("to-month").value}`);
  byId("board").hidden = false;
}

const chooser = new UnitChooser(byId("unit"), "see", (one) => {
  unit = one;
  look();
});
openPeriod(look);
window.terraceStats = () => ({ rows });
if (!(await chooser.go(Number(new URLSearchParams(location.search).get("unit")) || 0))) problem(t("centre.attendance.none"));
