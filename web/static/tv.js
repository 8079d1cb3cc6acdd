/**
 * The television of a village station. It runs for months without a person: whatever happens, there
 * is a picture or the calm scene with clock and words, and everything comes back by itself.
 */

import { LivePicture } from "./classline.js";
import { byId, setIcon, setText, t } from "./page.js";
import { RecordedPicture } from "./recorded.js";
import { askScreen, hearScreen, reportPicture } from "./station.js";
import { SILENT_AFTER_S, comeNext, onNow, plan } from "./tvplan.js";
import { lengthInWords } from "./stationwords.js";
import {
  lengthInFigures, showCard, showFaults, showItems, showMonth, showNote, showPairing,
  showRoll, showThird, showTime,
} from "./tvscene.js";
import { StationClock, Wall } from "./wallclock.js";

const ASK_EVERY_MS = 1000;
const TICK_EVERY_MS = 200;
const REPORT_EVERY_MS = 2000;
// A picture that moved this recently moves.
const MOVES_MS = 1200;
// The next course is loaded this long before its time, in seconds of the person there.
const PREPARE_S = 45;

const CARDS = {
  next: { tone: "good", icon: "play" },
  next_course_late: { tone: "bad", icon: "warn" },
  next_live_late: { tone: "busy", icon: "broken" },
  nothing: { tone: "calm", icon: "ready" },
  no_programme: { tone: "busy", icon: "wait" },
  loading: { tone: "calm", icon: "play" },
  missing: { tone: "bad", icon: "warn" },
  broken: { tone: "bad", icon: "warn" },
  ended: { tone: "calm", icon: "ready" },
  live_connecting: { tone: "calm", icon: "live" },
  live_sound: { tone: "busy", icon: "sound" },
  live_absent: { tone: "busy", icon: "wait" },
  live_full: { tone: "busy", icon: "wait" },
  live_refused: { tone: "bad", icon: "key" },
  live_lost: { tone: "bad", icon: "broken" },
};

const clock = new StationClock();
const recorded = new RecordedPicture([byId("video-a"), byId("video-b")], soon);
const livePicture = new LivePicture(byId("video-live"), byId("still"), soon);

let told = null;
let answeredMs = performance.now();
let wall = new Wall(document.documentElement.lang, "UTC");
let shown = plan(null, 0, null);
let reported = { key: "", atMs: 0 };

const silentS = () => (performance.now() - answeredMs) / 1000;

/* ---- the pictures ---- */

/** What the players need to know of a course; subtitles in the language of the page first. */
function reel(item) {
  return { key: `${item.id} ${item.src}`, src: item.src, subtitles: item.subtitles };
}

function steerPictures(now) {
  const item = onNow(told, now);
  if (item?.kind === "live" && item.whep) livePicture.play(item.whep);
  else livePicture.stop();
  if (item?.kind === "course" && item.src && item.trouble === "") {
    recorded.play(reel(item), now - item.startsAt, clock.rate);
  } else {
    recorded.stop();
  }
  const next = comeNext(told, now).find(({ src }) => src);
  if (next && (next.startsAt - now) / clock.rate < PREPARE_S) recorded.prepare(reel(next));
}

function mediaNow(item) {
  const key = item?.kind === "course" ? reel(item).key : "";
  const mine = key !== "" && recorded.key === key;
  return {
    rate: clock.rate,
    recorded: {
      shows: mine && recorded.shows(key),
      state: mine ? recorded.state : "loading",
      stillMs: recorded.stillMs(),
    },
    live: {
      shows: livePicture.shows(), state: livePicture.state, reason: livePicture.reason,
      waitsS: livePicture.waitsS,
    },
  };
}

/* ---- words ---- */

function card({ kind, item, seconds }, now) {
  const values = {
    title: item?.title ?? "",
    time: item ? wall.time(item.startsAt) : "",
    end: item ? wall.time(item.endsAt) : "",
    length: item ? lengthInWords(item.endsAt - item.startsAt) : "",
    seconds: seconds ?? 0,
  };
  const counts = kind.startsWith("next");
  const days = item && !wall.sameDay(item.startsAt, now);
  return {
    ...CARDS[kind],
    kicker: t(`tv.card.${kind}.kicker`, values),
    title: item && kind !== "live_sound" ? item.title : t(`tv.card.${kind}.title`, values),
    detail: t(`tv.card.${kind}.detail`, days && counts
      ? { ...values, time: `${wall.weekday(item.startsAt)} ${values.time}` } : values),
    countdown: counts
      ? t("tv.countdown", {
        left: item.startsAt - now < 3600 ? lengthInFigures(item.startsAt - now)
          : lengthInWords(item.startsAt - now),
      })
      : seconds ? t("tv.again", { seconds }) : "",
  };
}

function third(item) {
  return {
    icon: item.kind === "live" ? "live" : "play",
    kicker: t(item.kind === "live" ? "tv.third.live" : "tv.third.course"),
    title: item.title,
    detail: t("tv.third.until", { end: wall.time(item.endsAt) }),
  };
}

/** The chips of the bar: whether the box's own program answers, the line, the clock. */
function showBar() {
  const silent = silentS() > SILENT_AFTER_S;
  const down = told.pairing === null ? "down" : "none";
  const word = silent ? "box" : told.line.up ? "up" : down;
  byId("line-chip").dataset.state = { box: "lost", up: "live" }[word] ?? "waiting";
  setIcon("line-icon", { box: "again", up: "ready" }[word] ?? "broken");
  setText(byId("line-word"), t(`station.line.${word}`));
  byId("clock-chip").hidden = !told.clock.doubt;
  setText(byId("clock-word"), told.clock.doubt ? t("station.clock.doubt") : "");
  setText(byId("station-name"), told.station.name);
  setText(byId("county-name"), told.station.county);
}

/* ---- the rounds ---- */

let isDue = false;
let startTimer = 0;

/** Look again at the very moment at which the next item begins, not up to a round later. */
function lookAtStart(now) {
  const [next] = comeNext(told, now);
  const waitMs = next ? ((next.startsAt - now) / clock.rate) * 1000 : Infinity;
  clearTimeout(startTimer);
  if (waitMs < 2 * TICK_EVERY_MS) startTimer = setTimeout(tick, waitMs + 1);
}

/** A picture has changed: look at once, but not from within the change. */
function soon() {
  if (isDue) return;
  isDue = true;
  setTimeout(tick);
}

function tick() {
  isDue = false;
  const now = clock.now();
  if (told === null || now === null) return;
  if (told.pairing === null) {
    steerPictures(now);
  } else {
    recorded.stop();
    livePicture.stop();
  }
  const item = onNow(told, now);
  shown = plan(told, now, mediaNow(item));
  const tv = byId("tv");
  tv.dataset.screen = shown.screen;
  tv.dataset.picture = ["recorded", "live"].includes(shown.picture) ? "shown" : "none";
  showBar();
  showTime(wall, now, performance.now());
  if (shown.screen === "pairing") {
    showPairing(told.pairing);
  } else {
    if (shown.card) showCard(card(shown.card, now));
    showItems(comeNext(told, now), wall, now);
    showMonth(told.month);
    showRoll(told.attendUrl);
  }
  showFaults(told.faults, wall);
  showThird(shown.third && third(shown.third));
  const doubt = told.clock.doubt ? t("station.clock.doubt") : "";
  showNote(shown.note ? t(`tv.note.${shown.note}`) : doubt);
  byId("sound").hidden = !(recorded.soundIsBlocked || livePicture.soundIsBlocked);
  report(item, now);
  lookAtStart(now);
}

/** Tell the box what is really to be seen: its logbook and its watchdog live by this. */
function report(item, now) {
  const state = pictureState(item);
  const nowMs = performance.now();
  const key = `${state} ${item?.id}`;
  if (reported.key === key && nowMs - reported.atMs < REPORT_EVERY_MS) return;
  reported = { key, atMs: nowMs };
  reportPicture({
    state,
    item: item?.id ?? null,
    position_s: item?.kind === "course" ? recorded.positionS : 0,
    at: now,
    why: state === "error" ? recorded.error : state === "stalled" ? livePicture.reason : "",
  });
}

/** What of the item can be seen, in the box's words: playing, stalled, error or idle. */
function pictureState(item) {
  if (item === null) return "idle";
  if (shown.picture === "live") return livePicture.state === "playing" ? "playing" : "stalled";
  if (shown.picture === "recorded") return recorded.stillMs() < MOVES_MS ? "playing" : "stalled";
  if (item.kind === "course" && recorded.state === "broken") return "error";
  return recorded.state === "ended" && item.kind === "course" ? "idle" : "stalled";
}

function take(answer, askedMs, answeredAtMs) {
  told = answer;
  answeredMs = answeredAtMs;
  clock.set(told.now, (askedMs + answeredAtMs) / 2, told.rate);
  if (wall.timeZone !== told.timeZone) wall = new Wall(document.documentElement.lang, told.timeZone);
  soon();
}

async function ask() {
  const beganMs = performance.now();
  const answer = await askScreen();
  if (answer !== null) take(answer, beganMs, performance.now());
  tick();
  setTimeout(ask, ASK_EVERY_MS);
}

/* ---- whoever stands before it with a keyboard or a remote control ---- */

function allowSound() {
  if (recorded.soundIsBlocked) recorded.allowSound();
  if (livePicture.soundIsBlocked) livePicture.allowSound();
  tick();
}

byId("sound").addEventListener("click", allowSound);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") allowSound();
});
addEventListener("online", () => livePicture.hurry());

window.terraceStats = () => ({
  ...shown, told, now: clock.now(), silentS: silentS(),
  recorded: {
    state: recorded.state, key: recorded.key, positionS: recorded.positionS,
    stillMs: recorded.stillMs(), failures: recorded.failures, error: recorded.error,
  },
  live: {
    state: livePicture.state, reason: livePicture.reason, framesDecoded: livePicture.framesDecoded,
    reconnects: livePicture.reconnects,
  },
});
window.terrace = Object.freeze({ page: "tv", stats: window.terraceStats });

setInterval(tick, TICK_EVERY_MS);
ask();
hearScreen((answer) => take(answer, performance.now(), performance.now()));
