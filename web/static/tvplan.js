/**
 * What the television should show, from what the box last said, the time, and how the pictures do.
 *
 * The box says what plays now; between two of its answers, or when it falls silent, its list of the
 * next items is enough to begin the next one on time.
 */

/** So long without an answer of the box's own program, and the screen says so. */
export const SILENT_AFTER_S = 8;
// A lower third stays this long after the beginning of an item.
const THIRD_S = 9;
const STILL_NOTE_MS = 4000;

/**
 * @typedef {object} Item
 * @property {string} id
 * @property {string} title
 * @property {"course"|"live"} kind
 * @property {number} startsAt  Unix seconds
 * @property {number} durationS
 * @property {string} state  readiness: ready, fetching, waiting, late, missing, live
 * @property {number} percent  of its bytes that are here
 * @property {string} src  file on the box, "" if there is none
 * @property {string} whep  where a live class is, "" if this is none
 */

/** The item that is on at `now`: the one that began last and has not ended, null if none. */
export function onNow(items, now) {
  return items
    .filter((item) => item.startsAt <= now && now < item.startsAt + item.durationS)
    .reduce((last, item) => (last === null || item.startsAt >= last.startsAt ? item : last), null);
}

/** Those that begin after `now`, the nearest first. */
export function comeNext(items, now) {
  return items
    .filter((item) => item.startsAt > now)
    .sort((a, b) => a.startsAt - b.startsAt)
    .slice(0, 5);
}

/**
 * What to show.
 *
 * @param {object} told  the box's last answer, see station.js; null before the first
 * @param {number} now  the station's time, Unix seconds
 * @param {{recorded: {shows: boolean, state: string, stillMs: number},
 *          live: {shows: boolean, state: string, reason: string, waitsS: number|null}}} media
 * @returns {{screen: string, picture: string, card: object|null, third: object|null, note: string}}
 *          screen: starting, pairing, idle; picture: none, recorded, live.
 *          card, third and note name strings; they are put into words by tv.js
 */
export function plan(told, now, media) {
  if (told === null) return { screen: "starting", picture: "none", card: null, third: null, note: "" };
  if (told.pairing !== null) {
    return { screen: "pairing", picture: "none", card: null, third: null, note: "" };
  }
  const item = onNow(told.items, now);
  if (item === null) return idle(told, now);
  const third = now - item.startsAt < THIRD_S ? { item } : null;
  if (item.kind === "live") return live(told, item, now, media.live, third);
  return recorded(told, item, now, media.recorded, third);
}

function idle(told, now) {
  const [next] = comeNext(told.items, now);
  const card = next
    ? { kind: next.state === "late" || next.state === "missing" ? "next_late" : "next", item: next }
    : { kind: told.programme === "none" ? "no_programme" : "nothing" };
  return { screen: "idle", picture: "none", card, third: null, note: "" };
}

function recorded(told, item, now, media, third) {
  const base = { screen: "idle", third };
  if (item.src === "" || item.state === "missing") {
    return { ...base, picture: "none", card: { kind: "missing", item }, note: "", third: null };
  }
  if (media.state === "ended") {
    return { ...base, picture: "none", card: { kind: "ended", item }, note: "", third: null };
  }
  if (media.shows) {
    const still = media.state !== "broken" && media.stillMs < STILL_NOTE_MS;
    return { ...base, picture: "recorded", card: { kind: "loading", item }, note: still ? "" : "still" };
  }
  const kind = media.state === "broken" ? "broken" : "loading";
  return { ...base, picture: "recorded-soon", card: { kind, item }, note: "", third: null };
}

function live(told, item, now, media, third) {
  const base = { screen: "idle" };
  if (media.shows) {
    const note = media.state === "still" ? "reconnecting" : "";
    return { ...base, picture: "live", card: { kind: "live_connecting", item }, third, note };
  }
  const card = {
    off: "live_connecting",
    connecting: "live_connecting",
    soundonly: "live_sound",
  }[media.state] ?? lostCard(media.reason);
  return {
    ...base, picture: "live-soon", card: { kind: card, item, seconds: media.waitsS }, third: null, note: "",
  };
}

/** Why a live class is not to be seen -> the card that says it. */
function lostCard(reason) {
  switch (reason) {
    case "absent":
    case "conflict":
      return "live_absent";
    case "full":
    case "drained":
      return "live_full";
    case "refused":
    case "forbidden":
    case "expired":
      return "live_refused";
    default:
      return "live_lost";
  }
}
