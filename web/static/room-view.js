/** What the pages of a room show, decided from its state alone: no clock, no network, no page. */

/** The source of a site, and its stream in the room. */
export const siteSource = (site) => `site-${site}`;
export const streamOf = (room, source = "") => (source ? `class-${room}.${source}` : `class-${room}`);

/** The site of a source, null if it is none. */
export function siteOf(source) {
  const found = /^site-(\d+)$/.exec(source ?? "");
  return found ? Number(found[1]) : null;
}

/** Whether the room is open: the meeting goes on now. */
export const isOn = (state) => state.meeting?.room === "open";

/** Whether it cannot be opened again. */
export const isEnded = (state) =>
  ["ended", "published", "cancelled", "missed"].includes(state.meeting?.state);

/** Whether it is over. */
export const isOver = (state) => state.meeting?.room === "closed" || isEnded(state);

/**
 * How a place stands: who sees it, who hears it, and whether it is the programme.
 *
 * @param {object} state  of the room
 * @param {string} mine  its source
 * @param {{isUp: boolean, camera: boolean, microphone: boolean}} sending  what it sends now
 * @returns {{seen: "all"|"host"|"no", heard: "all"|"host"|"no", isLive: boolean, hasFloor: boolean,
 *            isMuted: boolean}}  host: only the director; isMuted: by the director
 */
export function standing(state, mine, sending) {
  const isProgramme = state.programme?.source === mine;
  const floor = state.floor?.[mine];
  const isOnStage = (state.stage ?? []).includes(mine);
  const isWanted = mine in (state.wanted ?? {});
  const isMuted = Boolean(isProgramme ? state.programme.muted : floor?.muted);
  const isSeen = sending.isUp && sending.camera;
  const isHeard = sending.isUp && sending.microphone;
  const forAll = (isProgramme || Boolean(floor?.heard)) && !isMuted;
  return {
    seen: !isSeen ? "no" : isProgramme || isOnStage ? "all" : isWanted ? "host" : "no",
    heard: !isHeard ? "no" : forAll ? "all" : isWanted ? "host" : "no",
    isLive: isProgramme && sending.isUp,
    hasFloor: floor !== undefined || isProgramme,
    isMuted,
  };
}

/**
 * The sources whose sound a place plays beside the programme's: of the floor, never its own, and
 * never one that the programme brings already.
 */
export function ears(state, mine) {
  return Object.entries(state.floor ?? {})
    .filter(([source, { heard, muted }]) => heard && !muted && source !== mine)
    .map(([source]) => source)
    .filter((source) => source !== state.programme?.source);
}

/** Whether the programme's sound is left out here: it would be one's own. */
export const isOwnProgramme = (state, mine) => Boolean(mine) && state.programme?.source === mine;

/**
 * What fills the hall's screen.
 *
 * @param {object} state
 * @param {boolean} isFresh  a ballot that has closed was closed a moment ago
 * @returns {"before"|"after"|"rollcall"|"ballot"|"poll"|"stage"|"slides"|"programme"}
 */
export function scene(state, isFresh) {
  if (isOver(state)) return "after";
  if (!isOn(state)) return "before";
  if (state.rollcall?.site) return "rollcall";
  if (state.ballot?.open) return "ballot";
  if (state.poll?.shown || state.poll?.open) return "poll";
  if (state.ballot && isFresh) return "ballot";
  if ((state.stage ?? []).length > 1) return "stage";
  if (pageNow(state)) return "slides";
  return "programme";
}

/** The page that is shown, null if none is: {sha256, width, height, number, of}. */
export function pageNow(state) {
  const { deck, page } = state.slides ?? {};
  return pageAt(state, deck, page);
}

/** A page of a deck, null if there is none. `page` counts from 1. */
export function pageAt(state, deck, page) {
  const pages = state[`deck:${deck}`]?.pages ?? [];
  const found = pages[page - 1];
  return found ? { ...found, number: page, of: pages.length } : null;
}

/** The decks of the room by their id. */
export const decks = (state) =>
  Object.keys(state).filter((key) => key.startsWith("deck:")).map((key) => key.slice(5));

/** Counts as shares of all, 0 to 1; all 0 when nobody has answered. */
export function shares(counts) {
  const all = counts.reduce((sum, one) => sum + one, 0);
  return counts.map((count) => ({ count, share: all > 0 ? count / all : 0 }));
}

/** The index that has most, null if none has or two have as many. */
export function leader(counts) {
  const most = Math.max(0, ...counts);
  const having = counts.filter((one) => one === most);
  return most > 0 && having.length === 1 ? counts.indexOf(most) : null;
}

/** A length of time as 3:05 or 1:02:03. */
export function clockWords(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Seconds since 1970 of a moment that the state gives as a number or as RFC 3339. */
export function seconds(moment) {
  if (moment === null || moment === undefined) return null;
  return typeof moment === "number" ? moment : Date.parse(moment) / 1000;
}

/** The name that a source is shown by, "" for one that nobody named. */
export function nameOf(state, source) {
  const known = (state.sources ?? []).find(({ id }) => id === source);
  return known?.name || (state.programme?.source === source ? state.programme.name : "") || "";
}

/** The sources that have the floor, the longest first. */
export const speakers = (state) => Object.entries(state.floor ?? {})
  .map(([source, turn]) => ({ source, ...turn }))
  .sort((a, b) => (seconds(a.since) ?? 0) - (seconds(b.since) ?? 0));

/** The unit that a source belongs to, "" if it is none's. */
export const unitOf = (state, source) =>
  (state.sources ?? []).find(({ id }) => id === source)?.unit ?? "";

/** The bounds of a line test; the same as the centre's, which keeps what is measured. */
export const TEST_BOUNDS = {
  audioBps: 48_000, uplinkBps: 400_000, delayMs: 300, loss: 0.05, skewMs: 60,
};

/**
 * One verdict: "ready", or what is to be done first. What was not measured is not judged.
 *
 * @param {{camera: boolean, microphone: boolean, speaker: boolean, uplink_bps: number|null,
 *          delay_ms: number|null, loss: number|null, skew_ms: number|null}} found  loss: 0 to 1
 * @returns {"ready"|"noline"|"microphone"|"speaker"|"camera"|"uplink"|"loss"|"delay"|"skew"}
 */
export function verdict(found) {
  if (found.uplink_bps !== null && found.uplink_bps < TEST_BOUNDS.audioBps) return "noline";
  if (!found.microphone) return "microphone";
  if (!found.speaker) return "speaker";
  if (!found.camera) return "camera";
  if (found.uplink_bps !== null && found.uplink_bps < TEST_BOUNDS.uplinkBps) return "uplink";
  if (found.loss > TEST_BOUNDS.loss) return "loss";
  if (found.delay_ms > TEST_BOUNDS.delayMs) return "delay";
  return Math.abs(found.skew_ms) > TEST_BOUNDS.skewMs ? "skew" : "ready";
}
