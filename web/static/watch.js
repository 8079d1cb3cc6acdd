/** The watch page: plays one stream from this node, and says in words what happens. */

import { Line, failure, pause } from "./line.js";
import {
  ask, bitrate, byId, fillList, has, milliseconds, nodeName, number, setIcon, setText, stream,
  streamIn, t, tn, token, tokenForm,
} from "./page.js";
import { Cushion } from "./cushion.js";
import { LossWindow, received } from "./stats.js";
import { ended, onEnded, open, receiver } from "./whip.js";

const SAMPLE_EVERY_S = 0.5;
// A quiet line is asked about after this long. Opus without sound still sends a packet every 0.4 s.
const SILENT_AFTER_MS = 4000;
const ASK_AGAIN_AFTER_MS = 2000;
const CONNECT_WITHIN_MS = 10_000;
const DISCONNECTED_FOR_MS = 3000;
const PICTURE_STOPPED_AFTER_MS = 3000;
const BARS_HIDE_AFTER_MS = 4000;
// While a node hands us over, the last picture stays this long before words take its place.
const HANDOVER_MS = 4000;
// Less is repaired without being seen.
const LOSSY_PERCENT = 2;

const ICONS = {
  connecting: "wait", starting: "wait", playing: "live", soundonly: "sound", paused: "pause",
  absent: "off", full: "warn", refused: "key", forbidden: "key", lost: "broken",
  unreachable: "broken", blocked: "broken", bad: "warn", trouble: "warn",
  unsupported: "warn", drained: "wait", noparent: "broken", expired: "key",
};

// Here our own sentences, in the viewer's language, say all that the node's English one would.
const SAID_ALREADY = new Set([
  "absent", "refused", "full", "drained", "noparent", "expired",
]);

const stage = byId("stage");
const video = byId("video");
const showTokenForm = tokenForm(() => line.start());

let state = "connecting";
let sample = null;
let wantsSound = false;
let needsTap = false;
// The node that serves us: "" is the one that this page came from, else a sibling's origin.
let base = "";
let handoverUntilMs = 0;

/* ---- what is happening, in words ---- */

/**
 * Show a state: its word in the corner and, unless the picture plays, its sentences on the curtain.
 *
 * @param {string} name  a `watch.<name>.*` key
 * @param {{seconds?: number, says?: string, address?: string}} more  seconds until the next attempt
 */
function show(name, more = {}) {
  const changed = state !== name;
  state = name;
  const values = { stream, node: nodeName, address: more.address || location.host };
  const word = t(`watch.${name}.word`);
  stage.dataset.state = name;
  stage.dataset.curtain = name === "playing" ? "open" : "closed";
  setText(byId("chip-word"), word);
  setIcon("chip-icon", ICONS[name]);
  setIcon("curtain-icon", ICONS[name]);
  if (name !== "playing") {
    setText(byId("headline"), t(`watch.${name}.title`, values));
    setText(byId("detail"), t(`watch.${name}.detail`, values));
  }
  const waiting = more.seconds !== undefined;
  byId("countdown").hidden = !waiting;
  byId("retry").hidden = !waiting;
  if (waiting) setText(byId("countdown"), tn("watch.again", more.seconds));
  byId("says").hidden = !more.says;
  setText(byId("says"), more.says ? t("common.says", { sentence: more.says }) : "");
  showTokenForm(name === "refused" || name === "forbidden" || name === "expired");
  if (changed) {
    setText(byId("announce"), name === "playing" ? word : t(`watch.${name}.title`, values));
    refreshTap();
    stirBars();
  }
}

/** A line over a picture that plays: it stands still, or there is only sound. */
function note(text) {
  byId("note").hidden = !text;
  setText(byId("note"), text);
}

/* ---- the line ---- */

async function connect(signal) {
  sample = null;
  if (!handingOver()) note("");
  const pc = receiver();
  const tracks = new MediaStream();
  pc.addEventListener("track", ({ track }) => {
    tracks.addTrack(track);
    if (video.srcObject !== tracks) video.srcObject = tracks;
    play();
  });
  const asked = base;
  // Whatever goes wrong at a sibling, the next one to ask is our own node.
  base = "";
  const endpoint = `${asked}/whep/${encodeURIComponent(stream)}`;
  const session = await open(pc, endpoint, { token: token(), signal });
  const served = session.location?.origin ?? location.origin;
  base = served === location.origin ? "" : served;
  return session;
}

/* ---- from one node to another ---- */

function handingOver() {
  return performance.now() < handoverUntilMs;
}

/** Keep the picture that is seen now, until the next node sends one. */
function keepPicture() {
  const still = byId("still");
  if (video.videoWidth === 0) return;
  still.width = video.videoWidth;
  still.height = video.videoHeight;
  still.getContext("2d").drawImage(video, 0, 0);
  still.hidden = false;
  handoverUntilMs = performance.now() + HANDOVER_MS;
}

function releasePicture() {
  handoverUntilMs = 0;
  byId("still").hidden = true;
}

/** Watch over a session until it is of no more use. */
async function hold(session, signal, good) {
  const { pc } = session;
  const beganMs = performance.now();
  let connectedOnce = false;
  let disconnectedMs = null;
  let movedMs = beganMs;
  let pictureMs = beganMs;
  let tickMs = beganMs;
  let askAgainMs = 0;
  const loss = new LossWindow();
  const cushion = new Cushion(pc, performance.now());
  const wake = new AbortController();
  signal.addEventListener("abort", () => wake.abort(), { once: true });
  onEnded(pc, () => wake.abort());
  if (handingOver()) {
    video.requestVideoFrameCallback?.(releasePicture);
  } else {
    show("starting");
  }
  while (!signal.aborted) {
    const before = sample;
    sample = await received(pc, before);
    const now = performance.now();
    cushion.take(sample, now);
    // A page in the background, or a machine that slept, must not blame the line for its own pause.
    if (now - tickMs > 3000) {
      movedMs = pictureMs = now;
      disconnectedMs = null;
    }
    tickMs = now;

    const link = pc.connectionState;
    connectedOnce ||= link === "connected";
    if (connectedOnce && ended(pc)) {
      if (state === "playing") keepPicture();
      return failure("lost", { goodbye: true });
    }
    if (link === "failed" || link === "closed" || ended(pc)) {
      return failure(connectedOnce ? "lost" : "blocked", { address: session.address });
    }
    if (!connectedOnce && now - beganMs > CONNECT_WITHIN_MS) {
      return failure("blocked", { address: session.address });
    }
    disconnectedMs = link === "disconnected" ? (disconnectedMs ?? now) : null;
    if (disconnectedMs !== null && now - disconnectedMs > DISCONNECTED_FOR_MS) {
      return failure("lost");
    }

    if (before === null || sample.bytesReceived > before.bytesReceived) {
      movedMs = now;
      if (state === "paused" || state === "noparent") show("starting");
    }
    if (sample.framesDecoded > (before?.framesDecoded ?? 0)) {
      pictureMs = now;
      good();
      show("playing");
      if (!video.requestVideoFrameCallback) releasePicture();
    } else if (sample.framesDecoded === 0 && sample.audioBytesReceived > 0 &&
               now - beganMs > PICTURE_STOPPED_AFTER_MS) {
      good();
      show("soundonly");
    }
    if (byId("still").hidden === false && !handingOver()) {
      releasePicture();
      if (state === "playing" && sample.framesDecoded === 0) show("starting");
    }
    const still = state === "playing" && now - pictureMs > PICTURE_STOPPED_AFTER_MS;
    const lossPercent = loss.add(now, sample);
    if (handingOver()) {
      note(t("watch.note.moving"));
    } else if (still && now - movedMs < SILENT_AFTER_MS) {
      note(t("watch.note.still"));
    } else {
      note(state === "playing" ? lossInWords(lossPercent) : "");
    }

    if (connectedOnce && now - movedMs > SILENT_AFTER_MS && now > askAgainMs) {
      // Whose silence is it? If the node is there and has nothing to send, the session is good.
      const silence = await whoseSilence(link);
      if (silence === "") return failure("lost");
      show(silence);
      tickMs = performance.now();
      askAgainMs = tickMs + ASK_AGAIN_AFTER_MS;
    }
    refreshTap();
    refreshNumbers();
    await pause(SAMPLE_EVERY_S, wake.signal);
  }
  return failure("lost");
}

/**
 * Where the silence begins when the node holds our stream but gets no media for it itself:
 * "paused" (the presenter's side), "noparent" (the node above us), "" if it is our own line.
 */
async function whoseSilence(link) {
  if (link !== "connected") return "";
  const node = await ask(`${base}/api/node`, 2000);
  const here = streamIn(node);
  if (here === null || (here.state === "live" && here.bitrate_in_bps > 0)) return "";
  const cut = here.source === "parent" && !["connected", "none"].includes(node.parent_state);
  return cut ? "noparent" : "paused";
}

let above = { askedMs: 0, percent: 0 };

/** Where packets are lost: on our own line, or already before this node. "" where it is little. */
function lossInWords(percent) {
  const now = performance.now();
  if (now - above.askedMs > 5000) {
    above.askedMs = now;
    ask(`${base}/api/node`, 2000).then((node) => {
      const tracks = streamIn(node)?.tracks ?? [];
      above.percent = Math.max(0, ...tracks.map((one) => one.unrepaired_percent ?? 0));
    });
  }
  if (above.percent >= LOSSY_PERCENT) {
    return t("watch.note.lossy_above", { percent: number(above.percent, 1), node: nodeName });
  }
  if (percent === null || percent < LOSSY_PERCENT) return "";
  return t("watch.note.lossy", { percent: number(percent, 1), node: nodeName });
}

const line = new Line({
  connect,
  hold,
  hasToken: () => token() !== "",
  show(phase, failed, seconds) {
    if (phase === "connecting") {
      // What was said last stays while a quick attempt runs: words that flicker help nobody.
      if (handingOver()) return;
      if (state === "connecting" || state === "playing") show("connecting");
      byId("retry").hidden = true;
      setText(byId("countdown"), t("watch.again.now"));
    } else {
      note("");
      releasePicture();
      const kind = failed.kind === "conflict" ? "absent" : failed.kind;
      const name = has(`watch.${kind}.title`) ? kind : "trouble";
      show(name, {
        says: SAID_ALREADY.has(name) ? "" : failed.says,
        address: failed.address,
        seconds: phase === "waiting" ? seconds : undefined,
      });
    }
    refreshNumbers();
  },
});

/* ---- picture and sound ---- */

async function play() {
  video.muted = !wantsSound;
  try {
    await video.play();
    needsTap = false;
  } catch (error) {
    if (error.name !== "NotAllowedError") return;
    if (!video.muted) {
      wantsSound = false;
      return play();
    }
    needsTap = true;
  }
  refreshTap();
}

function setSound(on) {
  wantsSound = on;
  remember(on);
  play();
  refreshTap();
}

/** Sound stays on over a change of language: the browser allows it to a page that had a tap. */
function remember(on) {
  try {
    sessionStorage.setItem("terrace.sound", on ? "on" : "");
  } catch {
    // Then it takes one more tap.
  }
}

/** The one big button: there whenever sound would be heard if somebody tapped. */
function refreshTap() {
  const tap = byId("tap");
  const hears = (sample?.audioBytesReceived ?? 0) > 0;
  const visible = needsTap || (video.muted && hears && (state === "playing" || state === "soundonly"));
  if (tap.hidden === visible) {
    tap.hidden = !visible;
    const free = document.activeElement === document.body || document.activeElement === null;
    if (visible && free) tap.focus({ preventScroll: true });
  }
  setText(byId("tap-title"), t(needsTap ? "watch.start.title" : "watch.sound.title"));
  const on = !video.muted;
  byId("sound-button").setAttribute("aria-pressed", String(on));
  setIcon("sound-icon", on ? "sound" : "muted");
  setText(byId("sound-word"), t(on ? "watch.sound.on" : "watch.sound.off"));
}

/* ---- numbers ---- */

function refreshNumbers() {
  if (byId("details").hidden) return;
  const s = sample;
  const dash = "–";
  const codecs = s && [s.videoCodec, s.audioCodec].filter(Boolean).join(" + ");
  fillList(byId("numbers"), [
    [t("watch.numbers.bitrate"), bitrate(s?.bitrateBps)],
    [t("watch.numbers.lost"), s ? `${number(s.packetsLost)} (${number(s.lossPercent, 2)} %)` : dash],
    [t("watch.numbers.round_trip"), milliseconds(s?.roundTripMs)],
    [t("watch.numbers.buffer"), milliseconds(s?.bufferMs)],
    [t("watch.numbers.jitter"), milliseconds(s?.jitterMs)],
    [
      t("watch.numbers.frames"),
      s ? t("watch.numbers.frames_value", {
        count: number(s.framesDecoded), rate: number(s.framesPerSecond),
      }) : dash,
    ],
    [
      t("watch.numbers.freezes"),
      s ? t("watch.numbers.freezes_value", {
        count: number(s.freezeCount), seconds: number(s.totalFreezesDuration, 1),
      }) : dash,
    ],
    [t("watch.numbers.resolution"), s?.width ? `${s.width} × ${s.height}` : dash],
    [t("watch.numbers.codec"), codecs || dash],
    [t("watch.numbers.reconnects"), number(line.reconnects)],
  ]);
}

function toggleDetails() {
  const details = byId("details");
  details.hidden = !details.hidden;
  byId("details-button").setAttribute("aria-expanded", String(!details.hidden));
  refreshNumbers();
}

/* ---- the whole screen ---- */

async function toggleFull() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (stage.requestFullscreen) await stage.requestFullscreen();
    else video.webkitEnterFullscreen?.(); // iPhone: only the video itself
  } catch {
    // The browser or its owner forbids it; the picture fills the window as it is.
  }
}

document.addEventListener("fullscreenchange", () => {
  byId("full-button").setAttribute("aria-pressed", String(Boolean(document.fullscreenElement)));
});

let barsTimer = 0;

/** Show the bars; a while after the last movement they go, if there is a picture to see. */
function stirBars() {
  delete stage.dataset.idle;
  clearTimeout(barsTimer);
  barsTimer = setTimeout(() => {
    const focused = stage.querySelector(".bar :focus-visible");
    if (state === "playing" && byId("details").hidden && !focused) stage.dataset.idle = "";
  }, BARS_HIDE_AFTER_MS);
}

for (const kind of ["pointermove", "pointerdown", "keydown", "focusin"]) {
  document.addEventListener(kind, stirBars, { passive: true });
}

/* ---- keys, buttons ---- */

const KEYS = {
  i: toggleDetails,
  f: toggleFull,
  m: () => setSound(video.muted),
  Escape: () => {
    if (!byId("details").hidden) toggleDetails();
  },
};

/** The arrows of a television's remote control move between what can be pressed. */
function moveFocus(step) {
  const all = [...stage.querySelectorAll("a[href], button, input")].filter(
    (one) => one.offsetParent !== null,
  );
  const at = all.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length;
  all[next]?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target instanceof HTMLInputElement) return;
  if (event.key === "ArrowRight" || event.key === "ArrowDown") moveFocus(1);
  else if (event.key === "ArrowLeft" || event.key === "ArrowUp") moveFocus(-1);
  else if (event.key in KEYS) KEYS[event.key]();
  else if (event.key.toLowerCase() in KEYS) KEYS[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
});

byId("tap").addEventListener("click", () => setSound(true));
byId("sound-button").addEventListener("click", () => setSound(video.muted));
byId("details-button").addEventListener("click", toggleDetails);
byId("full-button").addEventListener("click", toggleFull);
byId("retry").addEventListener("click", () => line.hurry());
video.addEventListener("dblclick", toggleFull);
addEventListener("online", () => line.hurry());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) line.hurry();
});
addEventListener("pagehide", () => line.stop());
addEventListener("pageshow", ({ persisted }) => {
  if (persisted) begin();
});

/* ---- for tests and for whoever looks into a fault ---- */

window.terraceStats = () => ({
  framesDecoded: 0, framesPerSecond: 0, freezeCount: 0, packetsLost: 0, packetsReceived: 0,
  totalSamplesReceived: 0, audioLevel: 0, concealedSamples: 0, bytesReceived: 0,
  ...sample, state, reconnects: line.reconnects, muted: video.muted,
});
window.terrace = Object.freeze({ page: "watch", stream, stats: window.terraceStats, line });

function begin() {
  if (typeof RTCPeerConnection === "undefined") {
    show("unsupported");
    return;
  }
  try {
    wantsSound = sessionStorage.getItem("terrace.sound") === "on";
  } catch {
    wantsSound = false;
  }
  refreshTap();
  line.start();
}

begin();
