/** Cameras, microphones, the screen, and how loud it is. */

/** Why no picture or sound could be had; `kind` is a key of the page's strings. */
export class CaptureError extends Error {
  constructor(kind, cause) {
    super(kind, { cause });
    this.name = "CaptureError";
    this.kind = kind;
  }
}

/** Picture sizes that can be chosen, with the bitrate each may take. */
export const SIZES = {
  180: { width: 320, height: 180, bitrateBps: 200_000 },
  360: { width: 640, height: 360, bitrateBps: 600_000 },
  720: { width: 1280, height: 720, bitrateBps: 1_800_000 },
  1080: { width: 1920, height: 1080, bitrateBps: 3_500_000 },
};

const FRAME_RATE = 25; // as the lamps flicker where mains is 50 Hz

/** What stands in the way of capturing anything on this page, "" if nothing. */
export function obstacle() {
  if (typeof RTCPeerConnection === "undefined") return "unsupported";
  if (!window.isSecureContext) return "insecure";
  return navigator.mediaDevices?.getUserMedia ? "" : "unsupported";
}

/** The cameras and microphones of this machine; names are "" until permission was given. */
export async function devices() {
  const all = await navigator.mediaDevices.enumerateDevices();
  return {
    cameras: all.filter(({ kind }) => kind === "videoinput"),
    microphones: all.filter(({ kind }) => kind === "audioinput"),
  };
}

/** Whether camera or microphone may be opened without a question. */
export async function permitted() {
  try {
    const asked = ["camera", "microphone"].map((name) => navigator.permissions.query({ name }));
    return (await Promise.all(asked)).every(({ state }) => state === "granted");
  } catch {
    return false; // Firefox and Safari do not tell.
  }
}

/** @throws {CaptureError} kind denied, missing.camera, busy.camera or failed */
export async function camera(deviceId, size) {
  const { width, height } = SIZES[size];
  const wanted = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: FRAME_RATE } };
  if (deviceId) wanted.deviceId = { exact: deviceId };
  const stream = await guard("camera", () => navigator.mediaDevices.getUserMedia({ video: wanted }));
  return stream.getVideoTracks()[0];
}

/** @throws {CaptureError} kind denied, missing.microphone, busy.microphone or failed */
export async function microphone(deviceId) {
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  if (deviceId) wanted.deviceId = { exact: deviceId };
  const stream = await guard("microphone", () =>
    navigator.mediaDevices.getUserMedia({ audio: wanted }),
  );
  return stream.getAudioTracks()[0];
}

/**
 * The screen, a window or a tab, with its sound if the person shares that too.
 *
 * @returns {Promise<{video: MediaStreamTrack, audio: MediaStreamTrack|null}>}
 * @throws {CaptureError} kind screen.denied, screen.missing or failed
 */
export async function screen(size) {
  if (!navigator.mediaDevices.getDisplayMedia) throw new CaptureError("screen.missing");
  const { width, height } = SIZES[size];
  const stream = await guard("screen", () =>
    navigator.mediaDevices.getDisplayMedia({
      video: { width: { max: width }, height: { max: height }, frameRate: { max: FRAME_RATE } },
      audio: true,
    }),
  );
  const video = stream.getVideoTracks()[0];
  video.contentHint = "detail"; // text must stay sharp; frames may be fewer
  return { video, audio: stream.getAudioTracks()[0] ?? null };
}

async function guard(device, action) {
  try {
    return await action();
  } catch (error) {
    throw new CaptureError(kindOf(error.name, device), error);
  }
}

function kindOf(name, device) {
  switch (name) {
    case "NotAllowedError":
    case "SecurityError":
      return device === "screen" ? "screen.denied" : "denied";
    case "NotFoundError":
    case "OverconstrainedError": // the chosen one has been unplugged
      return device === "screen" ? "screen.missing" : `missing.${device}`;
    case "NotReadableError":
    case "AbortError":
      return device === "screen" ? "failed" : `busy.${device}`;
    default:
      return "failed";
  }
}

/** Mixes the microphone with the screen's sound, and measures how loud what goes out is. */
export class Sound {
  #context = null;
  #analyser = null;
  #samples = new Float32Array(2048);
  #sources = [];
  #mix = null;

  /**
   * Take these tracks in place of the earlier ones.
   *
   * @param {MediaStreamTrack|null} voice
   * @param {MediaStreamTrack|null} screenSound
   * @returns {MediaStreamTrack|null}  what to send
   */
  use(voice, screenSound) {
    for (const source of this.#sources) source.disconnect();
    this.#sources = [];
    this.#mix = null;
    const tracks = [voice, screenSound].filter(Boolean);
    if (tracks.length === 0) return null;
    this.#context ??= new AudioContext();
    this.wake();
    if (!this.#analyser) {
      this.#analyser = this.#context.createAnalyser();
      this.#analyser.fftSize = this.#samples.length;
    }
    // One track goes out as it is: no mixer between it and the encoder, nothing that can fall asleep.
    if (tracks.length > 1) this.#mix = this.#context.createMediaStreamDestination();
    for (const track of tracks) {
      const source = this.#context.createMediaStreamSource(new MediaStream([track]));
      source.connect(this.#analyser);
      if (this.#mix) source.connect(this.#mix);
      this.#sources.push(source);
    }
    return this.#mix ? this.#mix.stream.getAudioTracks()[0] : tracks[0];
  }

  /** Browsers let an audio graph run only after a tap: call this at each. */
  wake() {
    if (this.#context?.state === "suspended") this.#context.resume().catch(() => {});
  }

  /** @returns {{levelDb: number, peakDb: number}|null}  dB below full scale; null without sound */
  measure() {
    if (this.#sources.length === 0 || this.#context.state !== "running") return null;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let square = 0;
    let peak = 0;
    for (const value of this.#samples) {
      square += value * value;
      peak = Math.max(peak, Math.abs(value));
    }
    const decibel = (amplitude) => Math.max(20 * Math.log10(amplitude), -90);
    return {
      levelDb: decibel(Math.sqrt(square / this.#samples.length)),
      peakDb: decibel(peak),
    };
  }
}

/** A level in a word: "none", "quiet", "good" or "loud". */
export function levelWord(levelDb, peakDb) {
  if (peakDb > -1) return "loud";
  if (levelDb < -55) return "none";
  return levelDb < -38 ? "quiet" : "good";
}
