/** The presenter's page: capture, preview, and keep a stream on air. */

import * as capture from "./capture.js";
import { Line, failure, pause } from "./line.js";
import {
  ask, bitrate, byId, fillList, has, milliseconds, number, setIcon, setText, stream, streamIn, t,
  tn, token, tokenForm,
} from "./page.js";
import { sent } from "./stats.js";
import { canSend, ended, open, sender } from "./whip.js";

const SAMPLE_EVERY_S = 1;
const CONNECT_WITHIN_MS = 10_000;
const DISCONNECTED_FOR_MS = 3000;
// The node answers our checks every 2.5 s and sends reports about once a second.
const DEAF_AFTER_MS = 6000;
const TAKEN_OVER_CHECK_S = 1.2;
const WATCHING_EVERY_MS = 5000;
const METER_EVERY_MS = 60;
const METER_TEXT_EVERY_MS = 300;

const sound = new capture.Sound();
const showTokenForm = tokenForm(() => {
  problem("");
  checkAccess();
});

/** What is captured now. */
const have = { camera: null, screen: null, screenSound: null, microphone: null, audio: null };
let pc = null;
let sample = null;
let onAir = false; // what the person wants
let air = "off"; // what is: off, connecting, on, broken
let aired = false; // media has flowed since "go on air"
let airSinceMs = 0;
let micMuted = false;
let choiceBefore = "camera";
let watching = null;

const pictureChoice = () => byId("sources").elements.picture.value;
const picture = () => (pictureChoice() === "screen" ? have.screen : have.camera);

/* ---- problems, in words ---- */

/**
 * Say what is wrong and what to do next; "" takes it away.
 *
 * @param {string} kind  a `present.problem.<kind>.*` key
 * @param {string} says  the node's own sentence
 * @param {string} address  where media goes, for words about firewalls
 */
function problem(kind, says = "", address = "") {
  const box = byId("problem");
  box.hidden = kind === "";
  showTokenForm(kind === "refused" || kind === "forbidden");
  if (kind === "") return;
  box.dataset.kind = kind;
  const values = { stream, address: address || location.host };
  setText(byId("problem-title"), t(`present.problem.${kind}.title`, values));
  setText(byId("problem-help"), t(`present.problem.${kind}.help`, values));
  byId("problem-says").hidden = says === "";
  setText(byId("problem-says"), says && t("common.says", { sentence: says }));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  box.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

function captureProblem(error) {
  if (!(error instanceof capture.CaptureError)) throw error;
  problem(error.kind, error.cause?.message ?? "");
}

/* ---- what is captured ---- */

async function listDevices() {
  const { cameras, microphones } = await capture.devices();
  fillSelect(byId("camera"), cameras, "present.camera.one", "present.camera.missing", false);
  fillSelect(
    byId("microphone"), microphones, "present.microphone.one", "present.microphone.missing", true,
  );
  return { cameras, microphones };
}

function fillSelect(select, list, nameKey, missingKey, mayBeNone) {
  const chosen = select.value;
  const options = list.map(({ deviceId, label }, index) => {
    return new Option(label || t(nameKey, { n: number(index + 1) }), deviceId);
  });
  if (list.length === 0) options.push(new Option(t(missingKey), "none"));
  else if (mayBeNone) options.push(new Option(t("present.microphone.none"), "none"));
  select.replaceChildren(...options);
  select.disabled = list.length === 0;
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

function release(name) {
  have[name]?.stop();
  have[name] = null;
}

/** Take the camera that is chosen. */
async function takeCamera() {
  release("camera"); // first: a phone opens one camera at a time
  try {
    have.camera = await capture.camera(byId("camera").value, byId("size").value);
    have.camera.addEventListener("ended", () => gone("camera"));
  } finally {
    await pictureChanged();
  }
}

async function takeMicrophone() {
  release("microphone");
  try {
    if (byId("microphone").value !== "none") {
      have.microphone = await capture.microphone(byId("microphone").value);
      have.microphone.enabled = !micMuted;
      have.microphone.addEventListener("ended", () => gone("microphone"));
    }
  } finally {
    await soundChanged();
  }
}

/** Ask for the screen; if the person says no, things stay as they were. */
async function takeScreen() {
  const taken = await capture.screen(byId("size").value);
  release("screen");
  release("screenSound");
  have.screen = taken.video;
  have.screenSound = taken.audio;
  have.screen.addEventListener("ended", () => gone("screen"));
  await pictureChanged();
  await soundChanged();
}

async function gone(name) {
  have[name] = null;
  if (name === "screen") {
    release("screenSound");
    problem("screen.ended");
  } else {
    problem(`gone.${name}`);
    await listDevices();
  }
  await pictureChanged();
  await soundChanged();
}

async function pictureChanged() {
  const track = picture();
  byId("preview").srcObject = track ? new MediaStream([track]) : null;
  byId("preview-box").dataset.picture = track ? pictureChoice() : "none";
  byId("preview-empty").hidden = track !== null;
  const words = pictureChoice() === "none" ? "present.preview.none"
    : pictureChoice() === "screen" ? "present.preview.screen" : "present.preview.off";
  setText(byId("preview-text"), t(words));
  byId("turn-on").hidden = pictureChoice() !== "camera";
  byId("camera-field").hidden = pictureChoice() !== "camera";
  byId("screen-field").hidden = pictureChoice() !== "screen";
  await replace("video", track);
}

async function soundChanged() {
  have.audio = sound.use(have.microphone, have.screenSound);
  byId("mic-mute").disabled = have.microphone === null;
  await replace("audio", have.audio);
}

/** Change what an open session sends, without a new session. */
async function replace(kind, track) {
  const transceiver = pc?.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
  await transceiver?.sender.replaceTrack(track);
}

/** Take whatever is chosen and not yet there. True if there is something to send. */
async function takeAll() {
  const { cameras, microphones } = await listDevices();
  const jobs = [];
  if (pictureChoice() === "camera" && !have.camera) {
    jobs.push(cameras.length ? takeCamera : missing("camera"));
  }
  if (pictureChoice() === "screen" && !have.screen) jobs.push(takeScreen);
  if (!have.microphone && byId("microphone").value !== "none") {
    jobs.push(microphones.length ? takeMicrophone : missing("microphone"));
  }
  problem("");
  for (const job of jobs) {
    try {
      await job();
    } catch (error) {
      captureProblem(error);
    }
  }
  await listDevices(); // now with their names
  return picture() !== null || have.audio !== null;
}

function missing(device) {
  return async () => {
    throw new capture.CaptureError(`missing.${device}`);
  };
}

/* ---- on air ---- */

/** @param {"off"|"connecting"|"on"|"broken"} next */
function setAir(next, detail = "") {
  const changed = air !== next;
  air = next;
  const icon = { off: "off", connecting: "wait", on: "live", broken: "broken" }[air];
  byId("desk").dataset.air = air;
  setIcon("air-icon", icon);
  setText(byId("air-word"), t(`present.${air}.word`));
  setText(byId("air-title"), t(`present.${air}.title`, { stream }));
  setText(byId("air-detail"), detail || t(`present.${air}.detail`, { stream }));
  setText(byId("air-button-word"), t(onAir ? "present.go_off" : "present.go_on"));
  setIcon("air-button-icon", onAir ? "off" : "live");
  if (!onAir) byId("codec-hint").hidden = true;
  if (changed) document.title = `${t(`present.${air}.word`)} · ${stream} · Terrace`;
}

async function goOnAir() {
  byId("air-button").disabled = true;
  try {
    let some = false;
    await attempt(async () => {
      some = await takeAll();
    });
    if (!some) {
      if (byId("problem").hidden) problem("nothing");
      return;
    }
    onAir = true;
    aired = false;
    line.start();
  } finally {
    byId("air-button").disabled = false;
  }
}

function goOffAir() {
  onAir = false;
  line.stop();
  pc = null;
  sample = null;
  setAir("off");
  refreshSent();
}

async function connect(signal) {
  sample = null;
  const video = picture();
  const { bitrateBps } = capture.SIZES[byId("size").value];
  const startKbps = Math.round((bitrateBps / 1000) * 0.7);
  const made = sender({
    video,
    audio: have.audio,
    codec: byId("codec").value,
    maxBitrateBps: bitrateBps,
  });
  pc = made;
  // Two channels cost twice the bits: a voice has one, a film on the screen has two.
  const stereo = have.screenSound !== null || have.audio?.getSettings().channelCount === 2;
  const options = { token: token(), stereo, startKbps, signal };
  return open(made, `/whip/${encodeURIComponent(stream)}`, options);
}

async function hold(session, signal, good) {
  const beganMs = performance.now();
  let connectedOnce = false;
  let disconnectedMs = null;
  let heardMs = beganMs;
  while (!signal.aborted) {
    const link = session.pc.connectionState;
    const now = performance.now();
    if (link === "connected" && !connectedOnce) {
      connectedOnce = true;
      if (!aired) airSinceMs = Date.now();
      aired = true;
      problem("");
    }
    if (link === "failed" || link === "closed" || ended(session.pc)) {
      return lost(session, connectedOnce, signal);
    }
    if (!connectedOnce && now - beganMs > CONNECT_WITHIN_MS) return lost(session, false, signal);
    disconnectedMs = link === "disconnected" ? (disconnectedMs ?? now) : null;
    if (disconnectedMs !== null && now - disconnectedMs > DISCONNECTED_FOR_MS) {
      return lost(session, true, signal);
    }
    const before = sample;
    sample = await sent(session.pc, before);
    if (sample.bytesHeard !== before?.bytesHeard) heardMs = now;
    if (connectedOnce && now - heardMs > DEAF_AFTER_MS) return lost(session, true, signal);
    if (sample.bytesSent > 0) good();
    if (connectedOnce) setAir("on", t("present.on.for", { time: clock(Date.now() - airSinceMs) }));
    refreshSent();
    await pause(connectedOnce ? SAMPLE_EVERY_S : 0.2, signal);
  }
  return failure("lost");
}

/**
 * The session is gone. If the node still gets media for this stream, somebody else took the name,
 * and taking it back by ourselves would throw them out in turn, for ever.
 */
async function lost(session, connectedOnce, signal) {
  session.close();
  if (!connectedOnce) return failure("blocked", { address: session.address });
  setAir("broken", t("present.broken.checking"));
  // Twice more each time: once could be our own last packets, still in the node's queue.
  let before = packetsAtNode(await ask("/api/node"));
  for (let times = 0; times < 2; times += 1) {
    await pause(TAKEN_OVER_CHECK_S, signal);
    const after = packetsAtNode(await ask("/api/node"));
    if (before === null || after === null || after <= before) return failure("lost");
    before = after;
  }
  return failure("taken_over", { final: true });
}

function packetsAtNode(node) {
  const here = streamIn(node);
  if (here === null || here.source !== "publisher") return null;
  return here.tracks.reduce((sum, { packets }) => sum + packets, 0);
}

const line = new Line({
  connect,
  hold,
  show(phase, failed, seconds) {
    if (phase === "connecting") {
      if (aired) setAir("broken", t("present.broken.now"));
      else setAir("connecting");
      return;
    }
    pc = null;
    sample = null;
    refreshSent();
    const kind = has(`present.problem.${failed.kind}.title`) ? failed.kind : "trouble";
    // Before anything was on air nobody is watching: say it once and let the person decide.
    if (phase === "stopped" || (!aired && kind !== "full")) {
      goOffAir();
      problem(kind, failed.says, failed.address);
      return;
    }
    if (byId("problem").hidden || byId("problem").dataset.kind !== kind) {
      problem(kind, failed.says, failed.address);
    }
    setAir("broken", tn("present.broken.again", seconds));
  },
});

function clock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/* ---- what is sent, who watches ---- */

function refreshSent() {
  const s = air === "on" ? sample : null;
  const dash = "–";
  const codecs = s && [s.videoCodec, s.audioCodec].filter(Boolean).join(" + ");
  const limit = s && has(`present.limit.${s.limitedBy}`) ? s.limitedBy : "other";
  fillList(byId("sent"), [
    [
      t("present.sent.picture"),
      s?.width ? t("present.sent.picture_value", {
        size: `${s.width} × ${s.height}`, rate: number(s.framesPerSecond),
      }) : dash,
    ],
    [t("present.sent.bitrate"), bitrate(s?.bitrateBps)],
    [t("present.sent.limit"), s?.width ? t(`present.limit.${limit}`) : dash],
    [t("present.sent.round_trip"), milliseconds(s?.roundTripMs)],
    [
      t("present.sent.lost"),
      s && s.lossPercent !== null ? `${number(s.lossPercent, 1)} %` : dash,
    ],
    [t("present.sent.codec"), codecs || dash],
  ]);
}

/** Viewers of our stream at this node of the tree and all below it. */
function viewersIn(node) {
  const here = streamIn(node)?.viewers ?? 0;
  return (node.below ?? []).reduce((sum, child) => sum + viewersIn(child), here);
}

async function refreshWatching() {
  const tree = (await ask("/api/tree", 4000)) ?? (await ask("/api/node"));
  watching = tree === null ? null : viewersIn(tree);
  setText(
    byId("watching"),
    watching === null ? t("present.watching.unknown") : tn("present.watching", watching),
  );
}

/** If the node says that this token may not publish, say so before the lesson, not at its start. */
async function checkAccess() {
  const access = await ask(`/api/access?stream=${encodeURIComponent(stream)}`);
  if (access && access.publish === false && !onAir) problem(token() ? "forbidden" : "refused");
}

/* ---- the level ---- */

let meterTextMs = 0;
let shownDb = -60;

function refreshMeter() {
  const measured = micMuted && !have.screenSound ? null : sound.measure();
  // Up at once, down by 20 dB a second, so that a word can be read between two syllables.
  const fallenDb = shownDb - (20 * METER_EVERY_MS) / 1000;
  shownDb = measured ? Math.max(measured.levelDb, fallenDb, -60) : -60;
  byId("meter-fill").style.transform = `scaleX(${(shownDb + 60) / 60})`;
  const now = performance.now();
  if (now - meterTextMs < METER_TEXT_EVERY_MS) return;
  meterTextMs = now;
  const word = measured ? capture.levelWord(shownDb, measured.peakDb) : "none";
  const text = micMuted && have.microphone ? t("present.level.muted")
    : !measured ? t(have.audio ? "present.level.none" : "present.level.off")
    : t(`present.level.${word}_value`, { level: number(shownDb) });
  byId("meter").dataset.word = word;
  byId("meter").setAttribute("aria-valuenow", String(Math.round(shownDb)));
  byId("meter").setAttribute("aria-valuetext", text);
  setText(byId("meter-text"), text);
}

function setMicMuted(muted) {
  micMuted = muted;
  if (have.microphone) have.microphone.enabled = !muted;
  byId("mic-mute").setAttribute("aria-pressed", String(muted));
  setText(byId("mic-mute").querySelector("span"), t(muted ? "present.mic.unmute" : "present.mic.mute"));
  setIcon("mic-icon", muted ? "micoff" : "mic");
}

/* ---- what people press ---- */

let queue = Promise.resolve();

/**
 * Run something that may fail for want of a device, and say so. One at a time: two hands on the
 * same camera would leave one of its tracks running for nobody.
 */
function attempt(action) {
  sound.wake();
  queue = queue.then(async () => {
    problem("");
    try {
      await action();
    } catch (error) {
      captureProblem(error);
    }
  });
  return queue;
}

byId("turn-on").addEventListener("click", () => attempt(takeAll));
byId("air-button").addEventListener("click", () => {
  sound.wake();
  if (onAir) goOffAir();
  else goOnAir();
});
byId("mic-mute").addEventListener("click", () => setMicMuted(!micMuted));
byId("problem-close").addEventListener("click", () => problem(""));
byId("camera").addEventListener("change", () => attempt(takeCamera));
byId("microphone").addEventListener("change", () => attempt(takeMicrophone));
byId("screen-again").addEventListener("click", () => attempt(takeScreen));
byId("sources").addEventListener("submit", (event) => event.preventDefault());

byId("sources").addEventListener("change", (event) => {
  if (event.target.name !== "picture") return;
  const choice = event.target.value;
  attempt(async () => {
    if (choice === "screen") {
      try {
        await takeScreen();
      } catch (error) {
        // Nothing was shared: what was shown before goes on.
        byId("sources").elements.picture.value = choiceBefore;
        throw error;
      }
    }
    choiceBefore = choice;
    if (choice !== "screen") {
      release("screen");
      release("screenSound");
    }
    if (choice !== "camera") release("camera"); // its lamp goes out, as people expect
    await pictureChanged();
    await soundChanged();
    if (choice === "camera") await takeCamera();
  });
});

byId("size").addEventListener("change", () =>
  attempt(async () => {
    const { width, height, bitrateBps } = capture.SIZES[byId("size").value];
    if (pictureChoice() === "camera" && have.camera) {
      await have.camera.applyConstraints({ width: { ideal: width }, height: { ideal: height } });
    }
    const out = pc?.getTransceivers().find(({ receiver }) => receiver.track.kind === "video");
    const parameters = out?.sender.getParameters();
    if (!parameters?.encodings.length) return;
    parameters.encodings[0].maxBitrate = bitrateBps;
    await out.sender.setParameters(parameters);
  }),
);

byId("codec").addEventListener("change", () => {
  byId("codec-hint").hidden = !onAir;
});

byId("copy").addEventListener("click", async () => {
  byId("link").select();
  try {
    await navigator.clipboard.writeText(byId("link").value);
    setText(byId("copy-word"), t("present.copied"));
    await pause(2);
  } catch {
    return; // it is selected: a person can copy it
  }
  setText(byId("copy-word"), t("present.copy"));
});

addEventListener("online", () => line.hurry());
addEventListener("beforeunload", (event) => {
  if (onAir) event.preventDefault();
});
addEventListener("pagehide", () => {
  if (onAir) goOffAir();
});

/* ---- for tests and for whoever looks into a fault ---- */

window.terraceStats = () => ({
  framesSent: 0, framesEncoded: 0, framesPerSecond: 0, bytesSent: 0, bitrateBps: null,
  ...sample, state: air, onAir, reconnects: line.reconnects, watching,
  problem: byId("problem").hidden ? "" : byId("problem").dataset.kind,
  levelDb: sound.measure()?.levelDb ?? null,
});
window.terrace = Object.freeze({ page: "present", stream, stats: window.terraceStats, line });

async function begin() {
  byId("link").value = new URL(byId("link").value, location.href).href;
  refreshSent();
  refreshWatching();
  setInterval(refreshWatching, WATCHING_EVERY_MS);
  setAir("off");
  const obstacle = capture.obstacle();
  if (obstacle) {
    problem(obstacle);
    for (const control of document.querySelectorAll("#sources :is(input, select, button)")) {
      control.disabled = true;
    }
    byId("air-button").disabled = true;
    byId("turn-on").disabled = true;
    return;
  }
  for (const option of byId("codec").options) {
    if (!canSend(option.value)) {
      option.disabled = true;
      option.textContent += t("present.codec.missing");
    }
  }
  if (byId("codec").selectedOptions[0]?.disabled) {
    byId("codec").value = [...byId("codec").options].find((one) => !one.disabled)?.value ?? "";
  }
  setInterval(refreshMeter, METER_EVERY_MS);
  navigator.mediaDevices.addEventListener("devicechange", listDevices);
  await listDevices();
  await checkAccess();
  if (await capture.permitted()) await attempt(takeAll);
}

begin();
