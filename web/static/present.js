/** The presenter's page: capture, preview, and keep a stream on air. */

import { obstacle, permitted } from "./capture.js";
import { showLevel } from "./level.js";
import { Line, failure, pause } from "./line.js";
import {
  ask, bitrate, byId, fillList, has, milliseconds, number, setIcon, setText, stream, streamIn, t,
  tn, token,
} from "./page.js";
import { lineMended, onNewToken, problem, shownProblem } from "./problem.js";
import {
  attempt, have, listDevices, onTrack, picture, resizeCamera, size, sound, takeAll,
} from "./sources.js";
import { sent } from "./stats.js";
import { canSend, ended, open, sender } from "./whip.js";

const SAMPLE_EVERY_S = 1;
const CONNECT_WITHIN_MS = 10_000;
const DISCONNECTED_FOR_MS = 3000;
// The node answers our checks every 2.5 s and sends reports about once a second.
const DEAF_AFTER_MS = 6000;
// Three reports in a row are missing: said, though the line may yet come back by itself.
const SILENT_AFTER_MS = 3000;
const TAKEN_OVER_CHECK_S = 1.2;
const WATCHING_EVERY_MS = 5000;

let pc = null;
let sample = null;
let onAir = false; // what the person wants
let air = "off"; // what is: off, connecting, on, broken
let aired = false; // media has flowed since "go on air"
let airSinceMs = 0;
let watching = null;

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
      if (!shownProblem()) problem("nothing");
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
  const { bitrateBps } = size();
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
      lineMended();
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
    if (connectedOnce && now - heardMs > SILENT_AFTER_MS) {
      setAir("broken", t("present.broken.checking"));
    } else if (connectedOnce) {
      setAir("on", t("present.on.for", { time: clock(Date.now() - airSinceMs) }));
    }
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
  hasToken: () => token() !== "",
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
    if (shownProblem() !== kind) problem(kind, failed.says, failed.address);
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

/* ---- what people press ---- */

/** What sends this kind in the open session, if there is one. */
function senderOf(kind) {
  return pc?.getTransceivers().find(({ receiver }) => receiver.track.kind === kind)?.sender;
}

// Another camera, the screen, another microphone: no new session, viewers notice only the picture.
onTrack((kind, track) => senderOf(kind)?.replaceTrack(track));
onNewToken(checkAccess);

byId("air-button").addEventListener("click", () => {
  sound.wake();
  if (onAir) goOffAir();
  else goOnAir();
});

byId("size").addEventListener("change", () =>
  attempt(async () => {
    await resizeCamera();
    const parameters = senderOf("video")?.getParameters();
    if (!parameters?.encodings.length) return;
    // The largest layer is the last; the number of layers stays that of the session.
    parameters.encodings.at(-1).maxBitrate = size().bitrateBps;
    await senderOf("video").setParameters(parameters);
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
  problem: shownProblem(),
  levelDb: sound.measure()?.levelDb ?? null,
});
window.terrace = Object.freeze({ page: "present", stream, stats: window.terraceStats, line });

async function begin() {
  byId("link").value = new URL(byId("link").value, location.href).href;
  refreshSent();
  refreshWatching();
  setInterval(refreshWatching, WATCHING_EVERY_MS);
  setAir("off");
  if (obstacle()) {
    problem(obstacle());
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
  showLevel();
  navigator.mediaDevices.addEventListener("devicechange", listDevices);
  await listDevices();
  await checkAccess();
  if (await permitted()) await attempt(takeAll);
}

begin();
