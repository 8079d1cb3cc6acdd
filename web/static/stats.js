/** What `RTCPeerConnection.getStats` knows, flat and in one unit each. */

/**
 * @typedef {object} Sample  numbers of one session at one moment; null where the browser has none
 * @property {number} at  performance.now(), ms
 */

function pick(report, wanted) {
  for (const entry of report.values()) if (wanted(entry)) return entry;
  return null;
}

function pathOf(report) {
  const transport = pick(report, ({ type }) => type === "transport");
  const chosen = transport && report.get(transport.selectedCandidatePairId);
  // Firefox has no selectedCandidatePairId.
  return chosen ?? pick(report, ({ type, nominated, state }) =>
    type === "candidate-pair" && nominated && state === "succeeded");
}

const ms = (seconds) => (Number.isFinite(seconds) ? seconds * 1000 : null);
const shortName = (mimeType) => (mimeType ? mimeType.split("/")[1] : "");

/** Bits per second between two byte counts, null until there are two. */
function rate(bytes, before, at, atBefore) {
  if (before === null || before === undefined || at <= atBefore || bytes < before) return null;
  return ((bytes - before) * 8000) / (at - atBefore);
}

/**
 * What a viewer receives.
 *
 * @param {RTCPeerConnection} pc
 * @param {object|null} before  the sample before, for rates
 */
export async function received(pc, before = null) {
  const report = await pc.getStats();
  const at = performance.now();
  const inbound = (kind) =>
    pick(report, (entry) => entry.type === "inbound-rtp" && entry.kind === kind) ?? {};
  const video = inbound("video");
  const audio = inbound("audio");
  const bytes = (video.bytesReceived ?? 0) + (audio.bytesReceived ?? 0);
  const lost = (video.packetsLost ?? 0) + (audio.packetsLost ?? 0);
  const packets = (video.packetsReceived ?? 0) + (audio.packetsReceived ?? 0);
  return {
    at,
    bytesReceived: bytes,
    videoBytesReceived: video.bytesReceived ?? 0,
    audioBytesReceived: audio.bytesReceived ?? 0,
    bitrateBps: rate(bytes, before?.bytesReceived, at, before?.at),
    packetsReceived: packets,
    packetsLost: lost,
    lossPercent: packets + lost > 0 ? (100 * Math.max(lost, 0)) / (packets + lost) : 0,
    nackCount: (video.nackCount ?? 0) + (audio.nackCount ?? 0),
    pliCount: video.pliCount ?? 0,
    framesReceived: video.framesReceived ?? 0,
    framesDecoded: video.framesDecoded ?? 0,
    framesDropped: video.framesDropped ?? 0,
    keyFramesDecoded: video.keyFramesDecoded ?? 0,
    framesPerSecond: video.framesPerSecond ?? 0,
    freezeCount: video.freezeCount ?? 0,
    totalFreezesDuration: video.totalFreezesDuration ?? 0,
    width: video.frameWidth ?? 0,
    height: video.frameHeight ?? 0,
    videoCodec: shortName(report.get(video.codecId)?.mimeType),
    audioCodec: shortName(report.get(audio.codecId)?.mimeType),
    totalSamplesReceived: audio.totalSamplesReceived ?? 0,
    concealedSamples: audio.concealedSamples ?? 0,
    silentConcealedSamples: audio.silentConcealedSamples ?? 0,
    audioLevel: audio.audioLevel ?? 0,
    totalAudioEnergy: audio.totalAudioEnergy ?? 0,
    jitterMs: ms(video.jitter ?? audio.jitter),
    bufferMs: bufferDelay(video, before) ?? bufferDelay(audio, null),
    bufferDelayS: video.jitterBufferDelay ?? 0,
    bufferEmitted: video.jitterBufferEmittedCount ?? 0,
    roundTripMs: ms(pathOf(report)?.currentRoundTripTime),
  };
}

const LOSS_WINDOW_MS = 10_000;
const ENOUGH_PACKETS = 100;

/** The share of packets lost over the last ten seconds. */
export class LossWindow {
  #samples = [];

  /**
   * Take a sample.
   *
   * @param {number} at  performance.now(), ms
   * @param {{packetsReceived: number, packetsLost: number}} sample  counts since the beginning
   * @returns {number|null}  percent, null until there is enough to tell
   */
  add(at, { packetsReceived, packetsLost }) {
    const samples = this.#samples;
    samples.push({ at, packetsReceived, packetsLost });
    while (samples.length > 1 && at - samples[1].at >= LOSS_WINDOW_MS) samples.shift();
    const lost = packetsLost - samples[0].packetsLost;
    const all = packetsReceived - samples[0].packetsReceived + lost;
    return all < ENOUGH_PACKETS ? null : (100 * Math.max(lost, 0)) / all;
  }
}

/** How long frames wait here before they are shown, over the time since `before`, ms. */
function bufferDelay(track, before) {
  const count = (track.jitterBufferEmittedCount ?? 0) - (before?.bufferEmitted ?? 0);
  const delay = (track.jitterBufferDelay ?? 0) - (before?.bufferDelayS ?? 0);
  return count > 0 && delay >= 0 ? (delay * 1000) / count : null;
}

/**
 * What a presenter sends.
 *
 * @param {RTCPeerConnection} pc
 * @param {object|null} before  the sample before, for rates
 */
export async function sent(pc, before = null) {
  const report = await pc.getStats();
  const at = performance.now();
  const outbound = (kind) =>
    pick(report, (entry) => entry.type === "outbound-rtp" && entry.kind === kind) ?? {};
  const video = outbound("video");
  const audio = outbound("audio");
  const heard = report.get(video.remoteId) ?? report.get(audio.remoteId) ?? {};
  const path = pathOf(report) ?? {};
  const bytes = (video.bytesSent ?? 0) + (audio.bytesSent ?? 0);
  return {
    at,
    bytesSent: bytes,
    videoBytesSent: video.bytesSent ?? 0,
    audioBytesSent: audio.bytesSent ?? 0,
    bitrateBps: rate(bytes, before?.bytesSent, at, before?.at),
    packetsSent: (video.packetsSent ?? 0) + (audio.packetsSent ?? 0),
    retransmittedPacketsSent: video.retransmittedPacketsSent ?? 0,
    framesEncoded: video.framesEncoded ?? 0,
    framesSent: video.framesSent ?? 0,
    keyFramesEncoded: video.keyFramesEncoded ?? 0,
    framesPerSecond: video.framesPerSecond ?? 0,
    width: video.frameWidth ?? 0,
    height: video.frameHeight ?? 0,
    limitedBy: video.qualityLimitationReason ?? "none",
    videoCodec: shortName(report.get(video.codecId)?.mimeType),
    audioCodec: shortName(report.get(audio.codecId)?.mimeType),
    nackCount: video.nackCount ?? 0,
    pliCount: video.pliCount ?? 0,
    lossPercent: Number.isFinite(heard.fractionLost) ? heard.fractionLost * 100 : null,
    packetsLost: heard.packetsLost ?? 0,
    roundTripMs: ms(heard.roundTripTime ?? path.currentRoundTripTime),
    availableBps: path.availableOutgoingBitrate ?? null,
    bytesHeard: (path.bytesReceived ?? 0) + (path.responsesReceived ?? 0),
  };
}
