/**
 * The test of a site's line: camera, microphone, loudspeaker, and the way to its node and back. It
 * plays back its own stream, without sound, so that what is measured is what others would get.
 */

import { bitrate, milliseconds, number, t, token } from "./page.js";
import { TEST_BOUNDS } from "./room-view.js";
import { LossWindow } from "./stats.js";
import { open, receiver } from "./whip.js";

const LISTEN_MS = 6000;
const HEAR_MS = 10_000;
const EVERY_MS = 250;
const SENDING_WITHIN_MS = 12_000;
const TONE_MS = 1500;
const SPEAKER_WITHIN_MS = 20_000;

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** A tone out of the loudspeaker, 440 Hz, not loud. */
async function tone() {
  const context = new AudioContext();
  try {
    await context.resume();
    const gain = new GainNode(context, { gain: 0.15 });
    const source = new OscillatorNode(context, { frequency: 440 });
    source.connect(gain).connect(context.destination);
    source.start();
    await pause(TONE_MS);
  } finally {
    await context.close();
  }
}

/** How far apart picture and sound are shown, ms: above 0 the picture is late; null if unknown. */
function skewOf(report) {
  const at = {};
  for (const entry of report.values()) {
    if (entry.type === "inbound-rtp" && entry.estimatedPlayoutTimestamp) {
      at[entry.kind] = entry.estimatedPlayoutTimestamp;
    }
  }
  return at.audio && at.video ? at.audio - at.video : null;
}

function median(values) {
  if (values.length === 0) return null;
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** Play back one's own stream for some seconds. Null where it does not come back. */
async function playBack(stream, sender) {
  const pc = receiver();
  const video = document.createElement("video");
  video.muted = true;
  const tracks = new MediaStream();
  pc.addEventListener("track", ({ track }) => {
    tracks.addTrack(track);
    video.srcObject = tracks;
    video.play().catch(() => {});
  });
  const skews = [];
  const trips = [];
  const rates = [];
  const losses = new LossWindow();
  let lossPercent = null;
  let session = null;
  try {
    session = await open(pc, `/whep/${encodeURIComponent(stream)}`, { token: token() });
    for (const end = performance.now() + LISTEN_MS; performance.now() < end;) {
      await pause(EVERY_MS);
      const skew = skewOf(await pc.getStats());
      if (skew !== null) skews.push(skew);
      const { sample } = sender;
      if (!sample) continue;
      if (sample.roundTripMs !== null) trips.push(sample.roundTripMs);
      if (sample.bitrateBps !== null) rates.push(sample.availableBps ?? sample.bitrateBps);
      lossPercent = sample.lossPercent ?? losses.add(sample.at, { packetsReceived: sample.packetsSent, packetsLost: sample.packetsLost });
    }
    return { skew: median(skews), trip: median(trips), rate: median(rates), lossPercent };
  } catch {
    return null;
  } finally {
    session?.close();
    pc.close();
    video.srcObject = null;
  }
}

async function hears(measureSound, levelWord) {
  let best = "none";
  for (const end = performance.now() + HEAR_MS; performance.now() < end && best === "none";) {
    const now = measureSound();
    if (now) best = levelWord(now.levelDb, now.peakDb);
    await pause(100);
  }
  return best !== "none";
}

/**
 * Run the test.
 *
 * @param {{sender: import("./room-sender.js").Sender, stream: string, hasCamera: () => boolean,
 *          measureSound: () => {levelDb: number, peakDb: number}|null,
 *          levelWord: (level: number, peak: number) => string,
 *          askSpeaker: (withinMs: number) => Promise<boolean>, mostBps: number}} site
 *   mostBps: what the chosen picture takes at most
 */
export async function lineTest({ sender, stream, hasCamera, measureSound, levelWord, askSpeaker, mostBps }) {
  for (const end = performance.now() + SENDING_WITHIN_MS; performance.now() < end && sender.state !== "up";) {
    await pause(200);
  }
  const [back, microphone, speaker] = await Promise.all([
    sender.state === "up" ? playBack(stream, sender) : null,
    hears(measureSound, levelWord),
    tone().then(() => askSpeaker(SPEAKER_WITHIN_MS), () => false),
  ]);
  // A small picture never asks for more, so that the line seems no wider than it: nothing is known
  // of a line that carries all of what it was given.
  const isFilled = back !== null && back.rate !== null && back.rate >= 0.75 * mostBps;
  const rate = isFilled && mostBps < TEST_BOUNDS.uplinkBps ? null : (back?.rate ?? null);
  const whole = (value) => (value === null || value === undefined ? null : Math.round(value));
  return {
    camera: hasCamera(), microphone, speaker,
    // Nothing that came back is a line that carries nothing.
    uplink_bps: back ? whole(rate) : 0, delay_ms: whole(back?.trip),
    loss: (back?.lossPercent ?? null) === null ? null : back.lossPercent / 100, skew_ms: whole(back?.skew),
  };
}

/** What was measured, as rows of words. */
export function testRows(found) {
  const yes = (is) => t(is ? "room.test.yes" : "room.test.no");
  return [
    [t("present.camera"), yes(found.camera)],
    [t("present.microphone"), yes(found.microphone)],
    [t("room.test.speaker_works"), yes(found.speaker)],
    [t("room.test.uplink_rate"), bitrate(found.uplink_bps)],
    [t("room.test.delay_trip"), milliseconds(found.delay_ms)],
    [t("room.test.loss_share"), found.loss === null ? "–" : `${number(100 * found.loss, 1)} %`],
    [t("room.test.skew_time"), milliseconds(found.skew_ms)],
  ];
}
