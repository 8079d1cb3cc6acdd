/**
 * The station's time, as pages show it: never the browser's own, which a box without a battery may
 * have wrong.
 */

/** The clock that the station believes in, carried on between two answers of the box. */
export class StationClock {
  #now = null;
  #atMs = 0;
  #rate = 1;

  /**
   * Take the time of an answer.
   *
   * @param {number} now  Unix seconds by the station's clock when it answered
   * @param {number} atMs  performance.now() of that moment: the middle of the request
   * @param {number} rate  station seconds per second, 1 but for a trial of a whole day
   */
  set(now, atMs, rate = 1) {
    this.#now = now;
    this.#atMs = atMs;
    this.#rate = rate;
  }

  get known() {
    return this.#now !== null;
  }

  /** Station seconds that pass in a second. */
  get rate() {
    return this.#rate;
  }

  /** Unix seconds by the station's clock, null before its first answer. */
  now(atMs = performance.now()) {
    return this.#now === null ? null : this.#now + ((atMs - this.#atMs) / 1000) * this.#rate;
  }
}

/** Writes moments and lengths as people of `lang` in `timeZone` do. */
export class Wall {
  #lang;
  #zone;
  #formats = new Map();

  /** @param {string} lang @param {string} timeZone  IANA name; one that is unknown counts as UTC */
  constructor(lang, timeZone) {
    this.#lang = lang;
    try {
      new Intl.DateTimeFormat(lang, { timeZone });
      this.#zone = timeZone;
    } catch {
      this.#zone = "UTC";
    }
  }

  get timeZone() {
    return this.#zone;
  }

  #format(name, options) {
    if (!this.#formats.has(name)) {
      const all = { timeZone: this.#zone, ...options };
      this.#formats.set(name, new Intl.DateTimeFormat(this.#lang, all));
    }
    return this.#formats.get(name);
  }

  /** 08:05 */
  time(unix) {
    const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    return this.#format("time", options).format(unix * 1000);
  }

  /** Thursday 26 November 2026 */
  date(unix) {
    const options = { weekday: "long", day: "numeric", month: "long", year: "numeric" };
    return this.#format("date", options).format(unix * 1000);
  }

  /** 26 Nov 08:05 */
  dateTime(unix) {
    const options = {
      day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23",
    };
    return this.#format("dateTime", options).format(unix * 1000);
  }

  /** 11/26, for a narrow place */
  day(unix) {
    return this.#format("day", { day: "numeric", month: "numeric" }).format(unix * 1000);
  }

  /** Thursday */
  weekday(unix) {
    return this.#format("weekday", { weekday: "short" }).format(unix * 1000);
  }

  /** November 2026 */
  month(unix) {
    return this.#format("month", { month: "long", year: "numeric" }).format(unix * 1000);
  }

  /** A day as a number that sorts: 20261126. */
  dayNumber(unix) {
    const parts = this.#format("number", {
      year: "numeric", month: "2-digit", day: "2-digit", numberingSystem: "latn", calendar: "gregory",
    }).formatToParts(unix * 1000);
    const of = (type) => parts.find((one) => one.type === type)?.value ?? "0";
    return Number(of("year") + of("month") + of("day"));
  }

  /** Whether both moments lie on the same day here. */
  sameDay(a, b) {
    return this.dayNumber(a) === this.dayNumber(b);
  }
}

/**
 * A length in the two units that matter: `[{value, unit}]`, unit being day, hour, minute or second.
 *
 * @param {number} seconds  negative counts as 0
 */
export function lengthParts(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  const all = [
    { unit: "day", value: Math.floor(left / 86400) },
    { unit: "hour", value: Math.floor(left / 3600) % 24 },
    { unit: "minute", value: Math.floor(left / 60) % 60 },
    { unit: "second", value: left % 60 },
  ];
  const first = all.findIndex(({ value }) => value > 0);
  if (first < 0) return [all[3]];
  return all.slice(first, first + 2).filter(({ value }, index) => index === 0 || value > 0);
}
