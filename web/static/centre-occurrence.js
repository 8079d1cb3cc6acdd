/** One lesson or meeting as it takes place: begin, end, extend; who answered; who is there now. */

import { LOOKS, ask, doing, format, hereZone, me, problem, refusal, span } from "./centre.js";
import { asked } from "./centre-api.js";
import { html } from "./drawing.js";
import { byId, fillList, number, setIcon, setText, stream, t, tn } from "./page.js";
import { openSingle, wireSingle } from "./singlechange.js";

const ASK_EVERY_MS = 5000;
const BASE = `/api/occurrences/${stream}`;
const REPLIES = ["open", "yes", "no", "leave"];

let stage = null;
let reply = "open";

async function act(path, body) {
  const answer = await ask(`${BASE}/${path}`, { method: "POST", body });
  const isDone = answer.status >= 200 && answer.status < 300;
  setText(byId("said"), isDone ? t(`centre.occurrence.done.${path}`) : refusal(answer));
  byId("said").dataset.tone = isDone ? "good" : "bad";
  byId("said").hidden = false;
  await look();
}

function draw() {
  const { occurrence: one } = stage;
  const look = LOOKS[one.state] ?? LOOKS.planned;
  byId("chip").dataset.state = look.tone;
  setIcon("chip-icon", look.icon);
  setText(byId("chip-word"), t(`centre.all.state.${one.state}`));
  setText(byId("title"), one.title);
  const day = format(one.time_zone, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
  const rows = [
    [t("centre.occurrence.when"), `${day.format(new Date(one.starts_at))}, ${span(one.starts_at, one.ends_at, one.time_zone)} (${one.time_zone})`],
    [t("centre.editor.unit"), stage.unit_name],
    [t("centre.editor.presenter"), stage.presenter_name || "–"],
    [t("centre.editor.room"), stage.room_name || "–"],
  ];
  if (one.time_zone !== hereZone) rows.splice(1, 0, [t("centre.occurrence.here"), `${span(one.starts_at, one.ends_at, hereZone)} (${hereZone})`]);
  if (stage.extended_until) rows.push([t("centre.occurrence.until"), format(one.time_zone, { hour: "2-digit", minute: "2-digit" }).format(new Date(stage.extended_until))]);
  fillList(byId("facts"), rows);
  byId("agenda-card").hidden = !stage.agenda;
  setText(byId("agenda"), stage.agenda);
  drawDoors(one);
  // Whether somebody comes is no question any more.
  const isOver = !["planned", "rehearsal", "on_air"].includes(one.state);
  byId("answer").hidden = isOver || !(me.may.reply ?? []).length;
}

function drawDoors(one) {
  const mayControl = stage.may.includes("control");
  const isOpen = one.state === "planned" || one.state === "rehearsal";
  const isOn = one.state === "on_air";
  byId("present").hidden = !(doing(one) === "present" && (isOpen || isOn));
  byId("watch").hidden = !isOn;
  byId("present").setAttribute("href", `/present/${stage.stream}`);
  byId("watch").setAttribute("href", `/watch/${stage.stream}`);
  byId("recording").hidden = !(one.state === "published" && one.course);
  if (one.course) byId("recording").setAttribute("href", `/courses/${one.course}`);
  byId("start").hidden = !(mayControl && isOpen);
  byId("end").hidden = !(mayControl && isOn);
  byId("extend-form").hidden = !(mayControl && isOn);
  byId("plan").hidden = !stage.may.includes("plan");
  byId("plan").setAttribute("href", `/centre/series/${one.series_id}`);
  byId("ask-end").hidden = !(isOn && stage.end_asked_at);
}

function drawInvitations(invited) {
  const { answers } = invited;
  const focused = document.activeElement?.dataset?.reply;
  byId("replies").replaceChildren(...REPLIES.map((one) => {
    const button = html("button", "", `${t(`centre.occurrence.reply.${one}`)} ${number(answers[one])}`);
    Object.assign(button, { type: "button" });
    button.dataset.reply = one;
    button.setAttribute("aria-pressed", String(one === reply));
    button.addEventListener("click", () => {
      reply = one;
      look();
    });
    return button;
  }));
  if (focused) byId("replies").querySelector(`[data-reply="${focused}"]`)?.focus();
  byId("units").replaceChildren(...invited.items.map((one) =>
    html("li", "row-line", "", html("span", "row-title", one.unit_name), html("span", "hint", one.reason))));
  setText(byId("invited"), tn("centre.occurrence.invited", answers.invited));
}

/** The answer of one's own unit; the API says whether there is an invitation. */
async function answerFor(value) {
  const reason = byId("reason").value.trim();
  if (value === "leave" && !reason) {
    byId("reason").focus();
    return setText(byId("reply-said"), t("centre.occurrence.reason.missing"));
  }
  const answer = await ask(`${BASE}/invitations/${me.person.unit_id}`, { method: "PUT", body: { reply: value, reason } });
  setText(byId("reply-said"), answer.status === 204 ? t(`centre.occurrence.replied.${value}`) : refusal(answer));
  return look();
}

async function look() {
  const answer = await ask(BASE);
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  stage = answer.body;
  draw();
  const own = stage.may.includes("see") ? "" : me.person.unit_id;
  const [invited, attending] = await Promise.all([
    ask(asked(`${BASE}/invitations`, { reply, limit: 100, unit_id: own })), ask(asked(`${BASE}/attendance`, { limit: 100, unit_id: own })),
  ]);
  byId("invitations").hidden = invited.status !== 200;
  if (invited.status === 200) drawInvitations(invited.body);
  byId("there-card").hidden = attending.status !== 200;
  if (attending.status === 200) {
    const now = attending.body.there.reduce((sum, { attendees }) => sum + attendees, 0);
    setText(byId("there"), number(now));
    setText(byId("there-says"), tn("centre.occurrence.there", now, { units: number(attending.body.there.length) }));
  }
  byId("body").hidden = false;
  await openSingle(stage);
}

async function run() {
  if (!document.hidden) await look();
  setTimeout(run, ASK_EVERY_MS);
}

byId("start").addEventListener("click", () => act("start"));
byId("end").addEventListener("click", () => byId("end-sure").showModal());
byId("end-no").addEventListener("click", () => byId("end-sure").close());
byId("end-yes").addEventListener("click", () => {
  byId("end-sure").close();
  act("end");
});
byId("extend-form").addEventListener("submit", (event) => {
  event.preventDefault();
  act("extend", { minutes: Number(byId("extend-minutes").value) });
});
for (const value of ["yes", "no", "leave"]) byId(`answer-${value}`).addEventListener("click", () => answerFor(value));

wireSingle(() => stage, look);

window.terraceStats = () => ({ stage });
run();
