/** What is said about stations on more than one page: lengths, faults, readiness. */

import { has, number, t, tn } from "./page.js";
import { lengthParts } from "./wallclock.js";

/** A length in words: "1 h 5 min". */
export function lengthInWords(seconds) {
  const [large, small] = lengthParts(seconds)
    .map(({ unit, value }) => tn(`station.length.${unit}`, value));
  return small === undefined ? large : t("station.length.two", { large, small });
}

// What a clock can be in doubt for, and other words of the box that stand in its sentences.
const WORDS = new Set(["reason"]);
const MOMENTS = new Set(["since", "until"]);

/**
 * A fault as a sentence. One that this page does not know yet shows what the box says of it.
 *
 * @param {{code: string, values?: object, sentence?: string}} fault  see media/faults.py
 * @param {import("./wallclock.js").Wall} wall
 */
export function faultInWords({ code, values = {}, sentence = "" }, wall) {
  const key = `station.fault.${code}`;
  if (!has(key)) return sentence || code;
  const written = Object.entries(values).map(([name, value]) => {
    if (MOMENTS.has(name) && typeof value === "number") return [name, wall.dateTime(value)];
    if (WORDS.has(name) && has(`station.doubt.${value}`)) return [name, t(`station.doubt.${value}`)];
    return [name, typeof value === "number" ? number(value) : value];
  });
  return t(key, Object.fromEntries(written));
}

/** The state of an item that is to come, in words. */
export function readinessInWords({ state, percent }) {
  return t(`station.ready.${state}`, { percent: number(Math.floor(percent ?? 0)) });
}

/** States of an item that is to come -> the tone and the icon that go with its words. */
export const READINESS = {
  ready: { tone: "good", icon: "ready" },
  live: { tone: "good", icon: "live" },
  fetching: { tone: "busy", icon: "fetch" },
  waiting: { tone: "calm", icon: "wait" },
  late: { tone: "bad", icon: "warn" },
  missing: { tone: "bad", icon: "warn" },
  "live-offline": { tone: "busy", icon: "broken" },
};
