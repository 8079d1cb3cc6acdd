/** A month's logbook of one station: on the box its own, at the county that of `/stations/{id}`. */

import { drawColumns, drawMeter, html } from "./drawing.js";
import { byId, fillList, number, setText, stream as id, t, tokenForm } from "./page.js";
import { call } from "./station.js";
import { lengthInWords } from "./stationwords.js";
import { Wall } from "./wallclock.js";

const AT_COUNTY = id !== "";
const SOURCE = AT_COUNTY ? `/api/stations/${encodeURIComponent(id)}/logbook` : "/api/station/logbook";

const showTokenForm = tokenForm(() => look());
let wall = new Wall(document.documentElement.lang, Intl.DateTimeFormat().resolvedOptions().timeZone);
let month = new URLSearchParams(location.search).get("month") ?? "";
let last = null;

/** The month `by` months after `which`, both as 2026-11. */
function shifted(which, by) {
  const [year, number_] = which.split("-").map(Number);
  const all = year * 12 + number_ - 1 + by;
  return `${Math.floor(all / 12)}-${String((all % 12) + 1).padStart(2, "0")}`;
}

function gapsInWords(gaps) {
  return gaps.map(({ from, to, why }) => html("span", "gap", t("logbook.gap", {
    time: wall.time(from), length: lengthInWords(Math.max(1, Math.round(to - from))),
    why: t(`logbook.why.${why}`),
  })));
}

function cell(label, className, ...children) {
  const made = html("td", className, "", ...children);
  made.dataset.label = t(label);
  return made;
}

function row(play) {
  const really = play.started_at === null ? html("span", "", t("logbook.never"))
    : html("span", "nowrap", `${wall.time(play.started_at)} – ${wall.time(play.ended_at)}`);
  const planned = html("span", "nowrap", wall.dateTime(play.planned_at));
  const gaps = play.started_at === null ? [] : gapsInWords(play.gaps);
  const rollWords = play.present === null ? "–"
    : t("logbook.present", { present: play.present, all: play.present + play.absent });
  const made = html("tr", "", "",
    cell("logbook.planned", "", html("span", "", "", planned, html("small", "", lengthInWords(play.planned_s)))),
    cell("logbook.class", "", html("span", "", "", html("span", "", play.title), html("small", "", t(`station.kind.${play.kind}`)))),
    cell("logbook.really", "really", really),
    cell("logbook.played", "figure", html("span", "nowrap", lengthInWords(Math.round(play.played_s)))),
    cell("logbook.gaps", "", html("span", "", "", ...(gaps.length ? gaps.flatMap((one, index) => index ? [html("br"), one] : [one]) : [html("span", "", "–")]))),
    cell("logbook.heads", "figure", html("span", "", play.head_count === null ? "–" : number(play.head_count))),
    cell("logbook.roll", "", html("span", "", rollWords)),
    cell("logbook.delivered", "", html("span", "", t(play.acknowledged ? "logbook.yes" : "logbook.no"))),
  );
  if (play.started_at === null) made.dataset.tone = "bad";
  return made;
}

function show(said) {
  last = said;
  month = said.month;
  setText(byId("month-name"), wall.month(Date.UTC(...month.split("-").map((one, i) => Number(one) - i), 15) / 1000));
  setText(byId("month-words"), t("station.hours", { hours: number(said.hours, 1), target: number(said.target) }));
  drawMeter(byId("month-meter"), said.hours, said.target);
  const seen = said.plays.filter((one) => one.started_at !== null);
  const heads = said.plays.filter((one) => one.head_count !== null);
  fillList(byId("sums"), [
    [t("logbook.sum.classes"), number(seen.length)],
    [t("logbook.sum.missed"), number(said.plays.length - seen.length)],
    [t("logbook.sum.heads"), heads.length ? number(heads.reduce((all, one) => all + one.head_count, 0) / heads.length) : "–"],
    [t("logbook.sum.turnout"), said.turnout === null || said.turnout === undefined ? "–" : `${number(100 * said.turnout)} %`],
  ]);
  drawColumns(byId("turnout"), said.plays.map((one) => ({
    value: one.head_count ?? one.present,
    label: wall.day(one.planned_at),
    title: `${wall.dateTime(one.planned_at)} ${one.title}`,
  })));
  byId("plays").replaceChildren(...said.plays.map(row));
  byId("empty").hidden = said.plays.length > 0;
  setText(byId("empty"), t("logbook.empty"));
}

async function look() {
  const { status, body, sentence } = await call(`${SOURCE}${month ? `?month=${encodeURIComponent(month)}` : ""}`);
  const refused = status === 401 || status === 403;
  showTokenForm(refused);
  byId("problem").hidden = status === 200;
  if (status === 200 && body !== null) {
    show(body);
    return;
  }
  byId("empty").hidden = true;
  setText(byId("problem"), status === 0 ? t(AT_COUNTY ? "stations.silent" : "box.silent")
    : refused ? t("stations.refused") : status === 404 ? t("site.unknown", { id }) : t("common.says", { sentence }));
}

/** The name over the page, and at the box its time zone. */
async function introduce() {
  const { body } = await call(AT_COUNTY ? `/api/stations/${encodeURIComponent(id)}` : "/api/station");
  const name = AT_COUNTY ? body?.name : body?.station?.name;
  if (name) setText(byId("station-name"), name);
  if (body?.time_zone) wall = new Wall(document.documentElement.lang, body.time_zone);
}

function turn(by) {
  if (month === "") return;
  month = shifted(month, by);
  history.replaceState(history.state, "", `?month=${month}`);
  look();
}

byId("before").addEventListener("click", () => turn(-1));
byId("after").addEventListener("click", () => turn(1));
byId("print").addEventListener("click", () => window.print());

window.terraceStats = () => ({ logbook: last });
window.terrace = Object.freeze({ page: "logbook", stats: window.terraceStats });

introduce().then(look);
