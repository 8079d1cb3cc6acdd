/**
 * What the television should show, from what the box last said, the time, and how the pictures do.
 *
 * The box says what plays now; between two of its answers, or when it falls silent, its list of the
 * next items is enough to begin the next one on time.
 */

/** So long without an answer of the box's own program, and the screen says so. */
export const SILENT_AFTER_S = 8;
// A lower third stays this long after the beginning of an item, in seconds of the person there.
const THIRD_S = 9;
const STILL_NOTE_MS = 4000;
const UNPLAYABLE = new Set(["late", "missing", "live-offline"]);

/**
 * @typedef {object} Item
 * @property {string} id
 * @property {string} title
 * @property {"course"|"live"} kind
 * @property {number} startsAt  Unix seconds
 * @property {number} endsAt
 * @property {string} state  how ready it is before its time: see media/playout.py
 * @property {number} percent  of its bytes that are here
 * @property {string} src  file on the box, "" if there is none
 * @property {string} whep  where a live class is, "" if this is none
 * @property {string} trouble  why it cannot be seen: line, missing, or ""
 */

/** The item that is on at `now`: the box's own, or of those to come one that has begun since. */
export function onNow(told, now) {
  const begun = told.coming.filter(({ startsAt, endsAt }) => startsAt <= now && now < endsAt);
  if (begun.length > 0) return begun.at(-1);
  const { current } = told;
  return current !== null && now < current.endsAt ? current : null;
}

/** Those that begin after `now`, the nearest first. */
export function comeNext(told, now) {
  return told.coming.filter(({ startsAt }) => startsAt > now);
}

const NOTHING = { picture: "none", card: null, third: null, note: "" };

/**
 * What to show.
 *
 * @param {object} told  the box's last answer, see station.js; null before the first
 * @param {number} now  the station's time, Unix seconds
 * @param {{rate: number,
 *          recorded: {shows: boolean, state: string, stillMs: number},
 *          live: {shows: boolean, state: string, reason: string, waitsS: number|null}}} media
 * @returns {{screen: string, picture: string, card: object|null, third: object|null, note: string}}
 *          screen: starting, pairing, idle; picture: none, recorded, live, or one of the two with
 *          "-soon". card and note name strings, third an item; tv.js puts them into words
 */
export function plan(told, now, media) {
  if (told === null) return { screen: "starting", ...NOTHING };
  if (told.pairing !== null) return { screen: "pairing", ...NOTHING };
  const item = onNow(told, now);
  if (item === null) return { screen: "idle", ...NOTHING, card: idleCard(told, now) };
  const third = (now - item.startsAt) / media.rate < THIRD_S ? item : null;
  const shown = item.kind === "live" ? live(item, media.live) : recorded(item, media.recorded);
  const seen = ["recorded", "live"].includes(shown.picture);
  return { screen: "idle", note: "", ...shown, third: seen ? third : null };
}

function idleCard(told, now) {
  const [next] = comeNext(told, now);
  if (next) return { kind: UNPLAYABLE.has(next.state) ? `next_${next.kind}_late` : "next", item: next };
  const none = told.faults.some(({ code }) => code === "programme-none");
  return { kind: none ? "no_programme" : "nothing" };
}

function recorded(item, media) {
  if (item.src === "" || item.trouble === "missing") return { picture: "none", card: { kind: "missing", item } };
  if (media.state === "ended") return { picture: "none", card: { kind: "ended", item } };
  const broken = media.state === "broken";
  const card = { kind: broken ? "broken" : "loading", item };
  if (!media.shows || (broken && media.stillMs > STILL_NOTE_MS)) {
    return { picture: "recorded-soon", card };
  }
  return { picture: "recorded", card, note: media.stillMs > STILL_NOTE_MS ? "still" : "" };
}

const LIVE_CARDS = { off: "live_connecting", connecting: "live_connecting", soundonly: "live_sound" };

function live(item, media) {
  if (media.shows) {
    const note = media.state === "still" ? "reconnecting" : "";
    return { picture: "live", card: { kind: "live_connecting", item }, note };
  }
  const kind = LIVE_CARDS[media.state] ?? lostCard(media.reason, item.trouble);
  return { picture: "live-soon", card: { kind, item, seconds: media.waitsS } };
}

/** Why a live class is not to be seen -> the card that says it. */
function lostCard(reason, trouble) {
  if (trouble === "line") return "live_lost";
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
