/** Clashes of a plan in words, and buttons that lead out of them. */

import { format, span } from "./centre.js";
import { html, icon } from "./drawing.js";
import { byId, number, setIcon, setText, t, tn } from "./page.js";

const MOST_SHOWN = 5;
const ICONS = { wait: "wait", good: "ready", clash: "warn", bad: "warn" };

function dayAndTime(moment, zone) {
  return format(zone, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })
    .format(new Date(moment));
}

/** One clash in words, as an entry of a list. */
export function finding(one, zone) {
  const day = format(zone, { weekday: "short", day: "numeric", month: "short" }).format(new Date(one.starts_at));
  return html("li", "finding", "",
    html("strong", "", t(`centre.editor.clash.${one.clash}`)),
    html("span", "", t("centre.editor.clash.with", {
      title: one.other.title, day, time: span(one.other.starts_at, one.other.ends_at, zone),
    })),
    html("small", "", t(one.mine_yields ? "centre.editor.clash.yields" : "centre.editor.clash.first")));
}

/**
 * Show what a check said.
 *
 * @param {object|null} found  of /api/series/check
 * @param {"wait"|"good"|"clash"|"bad"} state
 * @param {string} words  where nothing was found out
 * @param {string} zone  the plan's
 */
export function showClashes(found, state, words, zone = "UTC") {
  byId("check").dataset.state = state;
  setIcon("check-icon", ICONS[state]);
  const findings = found?.findings ?? [];
  setText(byId("check-word"), words || (findings.length
    ? tn("centre.editor.check.clash", findings.length) : tn("centre.editor.check.good", found.occurrences)));
  byId("findings").replaceChildren(...findings.slice(0, MOST_SHOWN).map((one) => finding(one, zone)));
  if (findings.length > MOST_SHOWN) {
    byId("findings").append(html("li", "hint", t("centre.editor.clash.more", { n: number(findings.length - MOST_SHOWN) })));
  }
  byId("anyway-field").hidden = !findings.some((one) => one.mine_yields);
  if (byId("anyway-field").hidden) byId("anyway").checked = false;
  if (!findings.length) waysOut(null, zone, {});
}

/** Offer the ways out of the first clash; null: none. */
export function waysOut(ways, zone, { moveTo, leaveOut, focus }) {
  const offers = [];
  const offer = (words, act) => {
    const button = html("button", "", "", icon("again"), html("span", "", words));
    button.type = "button";
    button.addEventListener("click", act);
    offers.push(button);
  };
  if (ways?.earlier) offer(t("centre.editor.way.earlier", { time: dayAndTime(ways.earlier, zone) }), () => moveTo(ways.earlier));
  if (ways?.later) offer(t("centre.editor.way.later", { time: dayAndTime(ways.later, zone) }), () => moveTo(ways.later));
  if (ways?.other_presenter) offer(t("centre.editor.way.presenter"), () => focus("presenter"));
  if (ways?.other_room) offer(t("centre.editor.way.room"), () => focus("room"));
  if (ways?.without?.length) offer(tn("centre.editor.way.without", ways.without.length), () => leaveOut(ways.without));
  byId("ways").hidden = offers.length === 0;
  byId("offers").replaceChildren(...offers);
}
