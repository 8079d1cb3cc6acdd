/** The plans of a unit by their state: handed in, taken out, copied from a week, read from a calendar file. */

import { ask, dayOf, format, hereZone, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { change, say, sure } from "./change.js";
import { chip, html } from "./drawing.js";
import { byId, number, setText, t, tn } from "./page.js";
import { weekday } from "./repeats.js";
import { UnitChooser } from "./unitchooser.js";

const DAY_MS = 86_400_000;
const MOST_EVENTS = 100;
const TONES = {
  draft: ["calm", "list"], refused: ["lost", "warn"], submitted: ["waiting", "wait"],
  confirmed: ["live", "ready"], cancelled: ["lost", "off"],
};

let unit = null;
let plans = [];
let following = null;
let looked = 0;

// A wall clock of the plan's own zone, so it is written as it stands.
const clock = format("UTC", {
  weekday: "short", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit",
});
const whenOf = ({ starts_local: starts, time_zone: zone }) => `${clock.format(new Date(`${starts}Z`))} (${zone})`;

/* ---- the list ---- */

function button(words, name, act, className = "") {
  const made = html("button", className, words);
  made.type = "button";
  made.setAttribute("aria-label", `${words}: ${name}`);
  made.addEventListener("click", act);
  return made;
}

function row(one) {
  const { plan } = one;
  const title = html("a", "row-title", plan.title);
  title.href = `/centre/series/${one.id}`;
  const acts = html("span", "row-acts");
  if (one.state === "draft" || one.state === "refused") {
    acts.append(button(t("centre.plans.submit"), plan.title, () => submit(one)));
  }
  if (["draft", "refused", "cancelled"].includes(one.state)) {
    acts.append(button(t("centre.plans.remove"), plan.title, () => remove(one), "quiet danger"));
  }
  const more = [t(`centre.all.kind.${plan.kind}`), whenOf(plan), plan.rule ? t("centre.plans.repeats") : "", one.refusal];
  return html("li", "row-line", "",
    html("span", "row-what", "", title, html("small", "", more.filter(Boolean).join(" · "))),
    chip(...TONES[one.state], t(`centre.all.series.${one.state}`)), acts);
}

async function submit(one) {
  const answer = await ask(`/api/series/${one.id}/submit`, { method: "POST" });
  if (answer.status === 409 && answer.body?.clashes) {
    say(t("centre.plans.clash", { title: one.plan.title }), "bad");
    return;
  }
  if (answer.status !== 200) return say(refusal(answer), "bad");
  say(t(`centre.plans.now.${answer.body.series.state}`, { title: one.plan.title }));
  return look();
}

async function remove(one) {
  if (!(await sure(t("centre.plans.remove.sure", { title: one.plan.title }), t("centre.plans.remove")))) return;
  if (await change(`/api/series/${one.id}`, { method: "DELETE" }, t("centre.plans.removed", { title: one.plan.title }))) look();
}

function draw() {
  byId("list").replaceChildren(...plans.map(row));
  byId("empty").hidden = plans.length > 0;
  byId("more").hidden = following === null;
}

async function look(after = "") {
  if (!unit) return;
  looked += 1;
  const mine = looked;
  const answer = await ask(asked("/api/series", { unit_id: unit.id, state: byId("state").value, after, limit: 50 }));
  if (mine !== looked) return; // another choice was made meanwhile
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  plans = after ? [...plans, ...answer.body.items] : answer.body.items;
  following = answer.body.next;
  draw();
}

/** Show drafts that were just made. */
function showDrafts() {
  byId("state").value = "draft";
  return look();
}

/* ---- the copy of a week ---- */

const plus = (date, days) => new Date(Date.parse(date) + days * DAY_MS).toISOString().slice(0, 10);
const monday = (date) => plus(date, -weekday(date));

function weeks() {
  const day = byId("copy-day").value;
  const count = Number(byId("copy-weeks").value);
  if (!day || !Number.isInteger(count) || count < 1 || count > 60) return null;
  return { from: monday(day), to: plus(monday(day), 7 * count), count };
}

function sayWeeks() {
  const chosen = weeks();
  const range = format("UTC", { day: "numeric", month: "long", year: "numeric" });
  const week = (date) => range.formatRange(new Date(date), new Date(plus(date, 6)));
  setText(byId("copy-says"), chosen ? t("centre.plans.copy.says", { from: week(chosen.from), to: week(chosen.to) }) : "");
}

byId("copy-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const chosen = weeks();
  if (!chosen || !unit) return;
  const body = { unit_id: unit.id, monday: `${chosen.from}T00:00:00`, weeks: chosen.count };
  const answer = await ask("/api/series/copy-week", { method: "POST", body });
  if (answer.status !== 201) {
    say(refusal(answer), "bad");
    return;
  }
  say(answer.body.length ? tn("centre.plans.copied", answer.body.length) : t("centre.plans.copied.none"));
  showDrafts();
});
for (const id of ["copy-day", "copy-weeks"]) byId(id).addEventListener("input", sayWeeks);

/* ---- a calendar file ---- */

let file = null;

async function send(isTrial) {
  if (!file || !unit) return byId("file").focus();
  const query = { unit_id: unit.id, kind: byId("kind").value, dry_run: isTrial ? 1 : 0 };
  const answer = await ask(asked(`/api/series/import`, query), { method: "POST", file: new Blob([file], { type: "text/calendar" }) });
  const saved = answer.body?.saved ?? [];
  const skipped = answer.body?.skipped ?? [];
  const isDone = answer.status === 200;
  byId("outcome").hidden = false;
  byId("outcome").dataset.tone = !isDone || !saved.length ? "bad" : "good";
  setText(byId("outcome"), isDone
    ? t(isTrial ? "centre.plans.ics.tried" : "centre.plans.ics.done", { saved: number(saved.length), skipped: number(skipped.length) })
    : refusal(answer));
  byId("apply").hidden = !(isDone && isTrial && saved.length);
  byId("events").replaceChildren(
    ...skipped.slice(0, MOST_EVENTS).map((one) => html("li", "finding", "", html("strong", "", one.title || "–"), html("span", "", one.reason))),
    ...saved.slice(0, MOST_EVENTS).map(({ plan }) => html("li", "event", "", html("strong", "", plan.title), html("span", "", whenOf(plan)))));
  if (isDone && !isTrial) showDrafts();
  return undefined;
}

byId("file").addEventListener("change", () => {
  [file] = byId("file").files;
  byId("apply").hidden = true;
});
byId("kind").addEventListener("change", () => {
  byId("apply").hidden = true;
});
byId("try").addEventListener("click", () => send(true));
byId("apply").addEventListener("click", () => send(false));

byId("state").addEventListener("change", () => look());
byId("more").addEventListener("click", () => look(following));
window.terraceStats = () => ({ plans, unit });

byId("copy-day").value = plus(dayOf(new Date(), hereZone), -7);
sayWeeks();
const found = await new UnitChooser(byId("unit"), "plan", (one) => {
  unit = one;
  byId("apply").hidden = true;
  look();
}).go(0);
if (!found) problem(t("centre.plans.none"));
