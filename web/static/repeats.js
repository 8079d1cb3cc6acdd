/**
 * Simple recurrence: what the builder of a rule knows, as an RRULE and back, and the next dates (pure).
 *
 * Dates are "2026-03-02", of the plan's own wall clock, without a zone. The centre works out the
 * same rules by RFC 5545; a rule that says more than this builder can is kept as it is.
 */

const DAY_MS = 86_400_000;
export const WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const MOST_STEPS = 5000;

/** The weekday of a date, Monday is 0. */
export const weekday = (date) => (new Date(date).getUTCDay() + 6) % 7;

const plus = (date, days) => new Date(Date.parse(date) + days * DAY_MS).toISOString().slice(0, 10);

/**
 * @typedef {{every: "", interval: number, days: string[], end: "never"|"until"|"count",
 *   until: string, count: number}} Repeat  every: "" | "DAILY" | "WEEKLY" | "MONTHLY"
 */

/** An RRULE of a Repeat, "" for once. */
export function ruleOf({ every, interval, days, end, until, count }) {
  if (!every) return "";
  const parts = [`FREQ=${every}`];
  if (interval > 1) parts.push(`INTERVAL=${interval}`);
  if (end === "count") parts.push(`COUNT=${count}`);
  if (end === "until" && until) parts.push(`UNTIL=${until.replaceAll("-", "")}T235959`);
  if (every === "WEEKLY" && days.length) {
    parts.push(`BYDAY=${WEEKDAYS.filter((one) => days.includes(one)).join(",")}`);
  }
  return parts.join(";");
}

/** The Repeat of an RRULE, null for one that says more than the builder can. */
export function repeatOf(rule) {
  const found = { every: "", interval: 1, days: [], end: "never", until: "", count: 10 };
  if (!rule) return found;
  for (const part of rule.split(";")) {
    const [name, value = ""] = part.split("=");
    const stamp = /^(\d{4})(\d{2})(\d{2})(T\d{6}Z?)?$/.exec(value);
    if (name === "FREQ" && ["DAILY", "WEEKLY", "MONTHLY"].includes(value)) found.every = value;
    else if (name === "INTERVAL" && /^\d{1,3}$/.test(value)) found.interval = Number(value);
    else if (name === "COUNT" && /^\d{1,4}$/.test(value)) Object.assign(found, { end: "count", count: Number(value) });
    else if (name === "UNTIL" && stamp && !value.endsWith("Z")) {
      Object.assign(found, { end: "until", until: `${stamp[1]}-${stamp[2]}-${stamp[3]}` });
    } else if (name === "BYDAY" && value.split(",").every((one) => WEEKDAYS.includes(one))) found.days = value.split(",");
    else if (!(name === "WKST" && value === "MO")) return null;
  }
  return found.every && (found.days.length === 0 || found.every === "WEEKLY") ? found : null;
}

/** The first `most` dates of a Repeat that begins on `from`. */
export function nextDates(from, repeat, most = 5) {
  if (!repeat.every) return [from];
  const limit = repeat.end === "count" ? Math.min(most, repeat.count) : most;
  const dates = [];
  const interval = Math.max(1, repeat.interval);
  const days = repeat.days.length ? repeat.days : [WEEKDAYS[weekday(from)]];
  const monday = plus(from, -weekday(from));
  for (let step = 0; dates.length < limit && step < MOST_STEPS; step += 1) {
    for (const date of candidates(from, monday, repeat.every, interval, days, step)) {
      if (repeat.end === "until" && repeat.until && date > repeat.until) return dates;
      if (date >= from && dates.length < limit) dates.push(date);
    }
  }
  return dates;
}

function candidates(from, monday, every, interval, days, step) {
  if (every === "DAILY") return [plus(from, step * interval)];
  if (every === "WEEKLY") {
    const week = plus(monday, 7 * interval * step);
    return WEEKDAYS.flatMap((one, index) => (days.includes(one) ? [plus(week, index)] : []));
  }
  // Months without this day, such as a 31st of April, are left out (RFC 5545).
  const [year, month, day] = from.split("-").map(Number);
  const made = new Date(Date.UTC(year, month - 1 + step * interval, day));
  return made.getUTCDate() === day ? [made.toISOString().slice(0, 10)] : [];
}
