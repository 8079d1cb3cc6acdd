/** What every page of the centre begins with: who is signed in, what they may, and the zone of times. */

import { call, keep } from "./centre-api.js";
import { byId, t } from "./page.js";

const lang = document.documentElement.lang;

function toSignIn() {
  location.replace(`/centre/signin?next=${encodeURIComponent(location.pathname + location.search)}`);
  return new Promise(() => {}); // nothing more happens on this page
}

/** Say what is wrong; "" takes it away. */
export function problem(words) {
  byId("problem").textContent = words;
  byId("problem").hidden = words === "";
  if (words) byId("problem").scrollIntoView({ block: "nearest" });
}

/** Why an answer is none, in words. */
export function refusal({ status, sentence }) {
  if (status === 0) return t("centre.all.silent");
  if (status === 403) return t("centre.all.refused", { sentence });
  return t("centre.all.says", { sentence: sentence || String(status) });
}

/** Ask the API; to the sign-in page if the session has ended. */
export async function ask(path, how = {}) {
  const answer = await call(path, how);
  return answer.status === 401 ? toSignIn() : answer;
}

/** All items of a list that pages, `most` at most. */
export async function all(path, most = 2000) {
  const items = [];
  let after = "";
  do {
    const glue = path.includes("?") ? "&" : "?";
    const { status, body } = await ask(after ? `${path}${glue}after=${encodeURIComponent(after)}` : path);
    if (status !== 200) return items;
    items.push(...body.items);
    after = body.next ?? "";
  } while (after && items.length < most);
  return items;
}

/** The time zone that this browser is in. */
export const hereZone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** A formatter of moments in a zone. */
export function format(zone, options) {
  return new Intl.DateTimeFormat(lang, { timeZone: zone, hourCycle: "h23", ...options });
}

/** "09:00–09:45" in a zone. */
export function span(startsAt, endsAt, zone) {
  const time = format(zone, { hour: "2-digit", minute: "2-digit" });
  return `${time.format(new Date(startsAt))}–${time.format(new Date(endsAt))}`;
}

/** The day of a moment in a zone, as 2026-03-02. */
export function dayOf(moment, zone) {
  const parts = new Intl.DateTimeFormat("en", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit",
  }).formatToParts(new Date(moment));
  const of = (type) => parts.find((one) => one.type === type).value;
  return `${of("year")}-${of("month")}-${of("day")}`;
}

/** What the state of an occurrence looks like: the chip's tone and picture. */
export const LOOKS = {
  planned: { tone: "calm", icon: "clock" },
  rehearsal: { tone: "waiting", icon: "wait" },
  on_air: { tone: "live", icon: "live" },
  ended: { tone: "calm", icon: "ready" },
  published: { tone: "calm", icon: "courses" },
  missed: { tone: "warn", icon: "warn" },
  cancelled: { tone: "lost", icon: "off" },
};

/** Who is signed in: {person, roles, may}. */
export const me = await (async () => {
  const { status, body } = await call("/api/session");
  if (status === 200) return keep(body);
  if (status === 401) return toSignIn();
  problem(t("centre.all.silent"));
  return new Promise(() => {});
})();

/** Whether I may do this for any unit at all. */
export function may(action) {
  return (me.may[action] ?? []).length > 0;
}

/** What I have to do with an occurrence: the words of it. */
export function doing(item) {
  if (item.presenter_id === me.person.id) return "present";
  return item.unit_id === me.person.unit_id ? "organise" : "attend";
}

byId("who").textContent = me.person.name;
byId("nav-plans").hidden = !may("plan");
byId("nav-approve").hidden = !may("approve");
byId("nav-see").hidden = !may("see");
byId("nav-units").hidden = !(may("keep units") || may("keep rooms"));
byId("nav-people").hidden = !may("keep people");
byId("nav-audit").hidden = !may("audit");
// On a phone the menu is wider than the screen.
document.querySelector(".centre-nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
byId("sign-out").addEventListener("click", async () => {
  await call("/api/session", { method: "DELETE" });
  location.assign("/centre/signin");
});
