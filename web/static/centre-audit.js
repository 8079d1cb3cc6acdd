/** The log: who changed what, the newest first, of everything or of one thing. */

import { ask, format, hereZone, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { html } from "./drawing.js";
import { byId, has, setText, t } from "./page.js";

const PAGES = { series: "/centre/series/", occurrence: "/centre/occurrence/" };
const MOST_DETAIL = 300;

const wanted = new URLSearchParams(location.search).get("subject") ?? "";
const subject = /^[a-z]{1,20}:[0-9]{1,18}$/.test(wanted) ? wanted : "";
const when = format(hereZone, {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});
let entries = [];
let following = null;

/** "unit:12" in words. */
function inWords(about) {
  const [kind, id] = about.split(":");
  return has(`centre.audit.kind.${kind}`) ? t(`centre.audit.kind.${kind}`, { id: id ?? "" }) : about;
}

function action(name) {
  const key = `centre.audit.do.${name.replaceAll(" ", "_")}`;
  return has(key) ? t(key) : name;
}

function detail(values) {
  const text = Object.entries(values)
    .map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
  return text.length > MOST_DETAIL ? `${text.slice(0, MOST_DETAIL)}…` : text;
}

function row(one) {
  const about = html("a", "", inWords(one.subject));
  about.href = asked("/centre/audit", { subject: one.subject });
  const [kind, id] = one.subject.split(":");
  const cell = html("td", "words", "", about);
  if (PAGES[kind]) {
    const open = html("a", "", t("centre.audit.open"));
    open.href = PAGES[kind] + id;
    open.setAttribute("aria-label", `${t("centre.audit.open")}: ${inWords(one.subject)}`);
    cell.append(" · ", open);
  }
  const time = html("th", "words", when.format(new Date(one.at)));
  time.scope = "row";
  return html("tr", "", "", time,
    html("td", "words", one.person_name ?? t(one.person_id === null ? "centre.audit.machine" : "centre.audit.gone")),
    html("td", "words", action(one.action)), cell, html("td", "words detail", detail(one.detail)));
}

async function look(after = "") {
  const answer = await ask(asked("/api/audit", { subject, after, limit: 50 }));
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  entries = [...entries, ...answer.body.items];
  following = answer.body.next;
  byId("entries").append(...answer.body.items.map(row));
  byId("empty").hidden = entries.length > 0;
  byId("more").hidden = following === null;
}

byId("chosen").hidden = subject === "";
setText(byId("chosen-word"), subject ? t("centre.audit.only", { subject: inWords(subject) }) : "");
byId("more").addEventListener("click", () => look(following));
window.terraceStats = () => ({ entries });
look();
