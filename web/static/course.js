/** The player of a course: chapters, speed, subtitles, quality, resume, keyboard. */

import {
  bitrate, byId, nodeName, number, setText, stream as courseId, t, token, tokenForm,
} from "./page.js";
import { bearer, clock, fetchJson, keepSeen, seenAt, shareToken } from "./course-data.js";
import { offerEdit } from "./course-edit.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2];
const KEEP_EVERY_MS = 4000;
const NEAR_START_S = 10;
const NEAR_END_S = 15;
const STALLED_MS = 5000;
const FLASH_MS = 700;
const QUALITY_KEY = "terrace.quality";
const SPEED_KEY = "terrace.speed";
const SUBTITLES_KEY = "terrace.subtitles";

const video = byId("video");
const stage = byId("stage");
let course = null;
let rendition = null;
let fellBack = false;

const showToken = tokenForm(() => load());

function remembered(key) {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Forbidden storage costs the memory, not the choice.
  }
}

function say(words) {
  setText(byId("note"), words);
  byId("note").hidden = !words;
}

// ---------------------------------------------------------------- what is played

function path(name) {
  return `/courses/${courseId}/${name}`;
}

/** The rendition to begin with: the one chosen last, else the best that the line seems to carry. */
function firstChoice() {
  const chosen = course.renditions.find(({ name }) => name === remembered(QUALITY_KEY));
  if (chosen) return chosen;
  const lineBps = (navigator.connection?.downlink ?? 10) * 1e6;
  const pictures = course.renditions.filter(({ width }) => width > 0);
  const fits = pictures.find((one) => one.peak_bitrate_bps < lineBps * 0.8);
  return fits ?? pictures.at(-1) ?? course.renditions[0];
}

/** Play another rendition from where it is. */
function play(one, at = video.currentTime, running = !video.paused) {
  rendition = one;
  byId("quality").value = one.name;
  const { playbackRate } = video;
  video.src = path(`${one.name}.mp4`);
  video.playbackRate = playbackRate;
  if (at > 0) video.currentTime = at;
  if (running) video.play().catch(() => {});
}

function fallBack() {
  const at = course.renditions.findIndex(({ name }) => name === rendition.name);
  const lower = course.renditions.slice(at + 1).find(({ width }) => width > 0 || !rendition.width);
  if (!lower) return;
  fellBack = true;
  say(t("course.slower", { quality: label(lower) }));
  play(lower);
}

let stalled = 0;
video.addEventListener("waiting", () => {
  clearTimeout(stalled);
  stalled = setTimeout(() => { if (!video.paused && !fellBack) fallBack(); }, STALLED_MS);
});
for (const name of ["playing", "pause", "seeking"]) {
  video.addEventListener(name, () => clearTimeout(stalled));
}
video.addEventListener("playing", () => { if (!fellBack) say(""); });

video.addEventListener("error", async () => {
  // The element does not say what the node said.
  const at = video.currentTime;
  try {
    const answer = await fetch(video.src, { headers: { ...bearer(), Range: "bytes=0-0" } });
    if (!answer.ok) {
      say(t("common.says", { sentence: (await answer.text()).trim() }));
      showToken(answer.status === 401 || answer.status === 403);
    } else {
      say(t("course.cut"));
    }
  } catch {
    say(t("course.cut"));
  }
  // A line that comes back goes on by itself.
  setTimeout(() => { if (video.error && rendition) play(rendition, at, true); }, 4000);
});

// ---------------------------------------------------------------- where it was

function keep() {
  if (!course || !Number.isFinite(video.duration) || video.readyState < 1) return;
  const at = video.currentTime;
  keepSeen(courseId, at > NEAR_START_S && at < video.duration - NEAR_END_S ? at : 0);
}

let kept = 0;
video.addEventListener("timeupdate", () => {
  if (performance.now() - kept > KEEP_EVERY_MS) {
    kept = performance.now();
    keep();
  }
  markChapter();
});
video.addEventListener("pause", keep);
video.addEventListener("ended", () => keepSeen(courseId, 0));
addEventListener("pagehide", keep);

function offerRestart(at) {
  setText(byId("over-words"), t("course.resumed", { time: clock(at) }));
  byId("over").hidden = false;
  const hide = () => { byId("over").hidden = true; };
  setTimeout(hide, 12000);
  byId("restart").addEventListener("click", () => {
    video.currentTime = 0;
    hide();
    video.play().catch(() => {});
    video.focus();
  }, { once: true });
}

// ---------------------------------------------------------------- chapters

function showChapters() {
  byId("chapters-box").hidden = course.chapters.length === 0;
  byId("chapters").replaceChildren(...course.chapters.map((one) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    const time = document.createElement("time");
    time.textContent = clock(one.start_s);
    const title = document.createElement("span");
    title.textContent = one.title;
    button.append(time, title);
    button.addEventListener("click", () => {
      video.currentTime = one.start_s;
      video.play().catch(() => {});
    });
    item.append(button);
    return item;
  }));
}

function chapterAt(seconds) {
  return course.chapters.findLastIndex((one) => one.start_s <= seconds + 0.01);
}

function markChapter() {
  if (!course?.chapters.length) return;
  const at = chapterAt(video.currentTime);
  for (const [index, item] of [...byId("chapters").children].entries()) {
    item.firstElementChild.setAttribute("aria-current", String(index === at));
  }
}

function jumpChapter(step) {
  const { chapters } = course;
  if (!chapters.length) return;
  const at = chapterAt(video.currentTime);
  // Back goes to the beginning of this one first, as players do.
  const back = step < 0 && at >= 0 && video.currentTime - chapters[at].start_s > 3 ? 0 : step;
  const target = chapters[Math.min(chapters.length - 1, Math.max(0, at + back))];
  video.currentTime = target.start_s;
  flash(target.title);
}

// ---------------------------------------------------------------- choices

function label(one) {
  if (!one.width) return t("course.sound", { rate: bitrate(one.bitrate_bps) });
  return `${one.height}p · ${bitrate(one.bitrate_bps)}`;
}

function fillChoices() {
  byId("choices").hidden = false;
  byId("speed").replaceChildren(
    ...SPEEDS.map((one) => new Option(`${number(one, one % 1 ? 2 : 0)} ×`, String(one))),
  );
  setSpeed(Number(remembered(SPEED_KEY)) || 1, false);
  byId("quality").replaceChildren(
    ...course.renditions.map((one) => new Option(label(one), one.name)),
  );
  const known = remembered(SUBTITLES_KEY);
  byId("subtitles-box").hidden = course.subtitles.length === 0;
  byId("subtitles").replaceChildren(
    new Option(t("course.subtitles.off"), ""),
    ...course.subtitles.map((one) => new Option(one.label, one.lang)),
  );
  for (const one of course.subtitles) {
    const track = document.createElement("track");
    track.kind = "subtitles";
    track.srclang = one.lang;
    track.label = one.label;
    track.src = `${path(one.file)}?${one.sha256.slice(0, 16)}`;
    video.append(track);
  }
  setSubtitles(course.subtitles.some(({ lang }) => lang === known) ? known : "", false);
}

function setSpeed(speed, tell = true) {
  const one = SPEEDS.includes(speed) ? speed : 1;
  video.defaultPlaybackRate = one;
  video.playbackRate = one;
  byId("speed").value = String(one);
  if (!tell) return;
  remember(SPEED_KEY, String(one));
  flash(`${number(one, one % 1 ? 2 : 0)} ×`);
}

function setSubtitles(lang, tell = true) {
  for (const track of video.textTracks) track.mode = track.language === lang ? "showing" : "disabled";
  byId("subtitles").value = lang;
  if (tell) {
    remember(SUBTITLES_KEY, lang);
    flash(byId("subtitles").selectedOptions[0]?.textContent ?? "");
  }
}

byId("speed").addEventListener("change", (event) => setSpeed(Number(event.target.value)));
byId("subtitles").addEventListener("change", (event) => setSubtitles(event.target.value));
byId("quality").addEventListener("change", (event) => {
  const one = course.renditions.find(({ name }) => name === event.target.value);
  remember(QUALITY_KEY, one.name);
  fellBack = false;
  say("");
  play(one);
});

// ---------------------------------------------------------------- keyboard

let fading = 0;
function flash(words) {
  const box = byId("flash");
  box.textContent = words;
  box.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(() => { box.hidden = true; }, FLASH_MS);
}

function jump(seconds) {
  video.currentTime = Math.max(0, Math.min(video.duration || 0, video.currentTime + seconds));
  flash(`${seconds > 0 ? "+" : "−"}${Math.abs(seconds)} s`);
}

function louder(step) {
  video.muted = false;
  video.volume = Math.round(Math.max(0, Math.min(1, video.volume + step)) * 20) / 20;
  flash(`${number(video.volume * 100)} %`);
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else (stage.requestFullscreen?.() ?? Promise.reject()).catch(() => video.webkitEnterFullscreen?.());
}

function nextSubtitles() {
  const langs = ["", ...course.subtitles.map(({ lang }) => lang)];
  setSubtitles(langs[(langs.indexOf(byId("subtitles").value) + 1) % langs.length]);
}

function faster(step) {
  const at = SPEEDS.indexOf(Number(byId("speed").value)) + step;
  setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at))]);
}

const KEYS = {
  " ": () => (video.paused ? video.play().catch(() => {}) : video.pause()),
  ArrowLeft: () => jump(-5),
  ArrowRight: () => jump(5),
  j: () => jump(-10),
  l: () => jump(10),
  ArrowUp: () => louder(0.05),
  ArrowDown: () => louder(-0.05),
  m: () => { video.muted = !video.muted; },
  f: fullScreen,
  c: nextSubtitles,
  "<": () => faster(-1),
  ">": () => faster(1),
  n: () => jumpChapter(1),
  p: () => jumpChapter(-1),
};
KEYS.k = KEYS[" "];

document.addEventListener("keydown", (event) => {
  if (!course || event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  if (target.matches("input, select, textarea, summary") || target.closest("dialog")) return;
  if (target.matches("button, a") && (event.key === " " || event.key === "Enter")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = /^[0-9]$/.test(key)
    ? () => { video.currentTime = (video.duration || 0) * (Number(key) / 10); }
    : KEYS[key];
  // Up and down scroll the page until somebody is at the player.
  if (!action || (/^Arrow(Up|Down)$/.test(key) && !stage.contains(target))) return;
  event.preventDefault();
  action();
}, { capture: true });

// ---------------------------------------------------------------- begin

function show() {
  describe();
  say(course.complete ? "" : t("course.making"));
  fillChoices();
}

/** All that people say of the course. */
function describe() {
  document.title = `${course.title} · ${nodeName} · Terrace`;
  setText(byId("title"), course.title);
  const date = new Date(course.created).toLocaleDateString(document.documentElement.lang);
  const facts = [course.teacher, course.unit, date, clock(course.duration_s), ...course.tags];
  setText(byId("facts"), facts.filter(Boolean).join(" · "));
  setText(byId("description"), course.description);
  const lost = course.missing.reduce((sum, one) => sum + one.duration_s, 0);
  byId("missing").hidden = lost < 0.5;
  setText(byId("missing"), t("course.missing", { seconds: number(lost) }));
  if (course.poster) video.poster = path(course.poster.file);
  showChapters();
}

async function load() {
  await shareToken();
  const { status, value, sentence } = await fetchJson(`/api/courses/${courseId}`);
  showToken(status === 401 || status === 403);
  if (value === null) {
    const words = sentence ? t("common.says", { sentence }) : t("course.silent");
    say(words);
    setText(byId("title"), status === 404 ? t("course.none") : t("course.title"));
    // A course that is not there may be on its way.
    if (status === 0 || status === 404 || status >= 500) setTimeout(load, 4000);
    return;
  }
  course = value.course;
  show();
  offerEdit(course, again);
  const hash = /^#t=(\d+(?:\.\d+)?)$/.exec(location.hash);
  const at = hash ? Number(hash[1]) : seenAt(courseId);
  if (at && !hash) offerRestart(at);
  play(firstChoice(), at, false);
}

/** Show what was corrected; what plays goes on. */
async function again() {
  const { value } = await fetchJson(`/api/courses/${courseId}`);
  if (value === null) return;
  course = value.course;
  describe();
  offerEdit(course, again);
}

load();
window.terrace = Object.freeze({
  page: "course",
  state: () => ({
    rendition: rendition?.name ?? "", at: video.currentTime, paused: video.paused,
    duration: video.duration, width: video.videoWidth, seeking: video.seeking,
    ready: video.readyState, error: video.error?.message ?? "", token: Boolean(token()),
  }),
});
