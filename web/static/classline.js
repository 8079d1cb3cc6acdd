/**
 * A live stream on the television or in a room: one WHEP session, held as long as it is wanted and
 * come back to by itself whenever the line dies.
 */

import { Cushion } from "./cushion.js";
import { Line, failure, pause } from "./line.js";
import { received } from "./stats.js";
import { ended, onEnded, open, receiver } from "./whip.js";

const SAMPLE_EVERY_S = 0.5;
const CONNECT_WITHIN_MS = 10_000;
const SILENT_AFTER_MS = 4000;
const DISCONNECTED_FOR_MS = 3000;
const NO_PICTURE_AFTER_MS = 5000;
// The last picture stays this long before words take its place.
const STILL_MS = 4000;
// A node that refused us for good is asked again all the same: a person may mend it meanwhile.
const REFUSED_AGAIN_MS = 15_000;

export class LivePicture {
  /** "off", "connecting", "playing", "soundonly", "still" (the last picture, line lost) or "lost" */
  state = "off";
  /** Why the line is down: `kind` of line.js's Failure, "" if it is not. */
  reason = "";
  /** The node's own sentence about it, "" if none. */
  says = "";
  /** Seconds until the next attempt, null while one runs. */
  waitsS = null;
  /** When the last picture was taken away, performance.now(). */
  lostMs = 0;
  framesDecoded = 0;
  soundIsBlocked = false;
  /** When a frame was decoded last, performance.now(). */
  movedMs = 0;

  #video;
  #still;
  #changed;
  #token;
  #kinds;
  #isQuiet = false;
  #line = null;
  #whep = "";

  /**
   * @param {HTMLMediaElement} video
   * @param {HTMLCanvasElement} still  where the last picture is kept
   * @param {() => void} changed
   * @param {{token?: () => string, kinds?: string[]}} more  kinds: ["audio"] for sound alone
   */
  constructor(video, still, changed, { token = () => "", kinds = ["audio", "video"] } = {}) {
    this.#video = video;
    this.#still = still;
    this.#changed = changed;
    this.#token = token;
    this.#kinds = kinds;
  }

  /** Whether its sound is left out, whatever the browser allows. */
  get isQuiet() {
    return this.#isQuiet;
  }

  set isQuiet(quiet) {
    if (this.#isQuiet === quiet) return;
    this.#isQuiet = quiet;
    this.#video.muted = quiet || this.soundIsBlocked;
  }

  /** Times that a new session was made after the first. */
  get reconnects() {
    return this.#line?.reconnects ?? 0;
  }

  /** Whether there is something to see: the picture itself, or its last one for a moment. */
  shows(nowMs = performance.now()) {
    return this.state === "playing" || (this.state === "still" && nowMs - this.lostMs < STILL_MS);
  }

  /** Whether the picture stands still although the line does not: only the sound gets through. */
  stands(nowMs = performance.now()) {
    return this.state === "playing" && nowMs - this.movedMs > NO_PICTURE_AFTER_MS;
  }

  /** Be in the class at `whep`; called again and again. */
  play(whep) {
    if (this.#line !== null && this.#whep === whep) {
      if (this.state === "still" && !this.shows()) this.#set("lost");
      return;
    }
    this.stop();
    this.#whep = whep;
    this.#line = new Line({
      connect: (signal) => this.#connect(signal),
      hold: (session, signal, good) => this.#hold(session, signal, good),
      hasToken: () => true,
      show: (phase, failed, seconds) => this.#told(phase, failed, seconds),
    });
    this.#set("connecting");
    this.#line.start();
  }

  stop() {
    if (this.#line === null) return;
    this.#line.stop();
    this.#line = null;
    this.#whep = "";
    this.#video.srcObject = null;
    this.#video.dataset.on = "no";
    this.#still.hidden = true;
    this.reason = this.says = "";
    this.#set("off");
  }

  /** The network is there again: do not wait for the next attempt. */
  hurry() {
    this.#line?.hurry();
  }

  allowSound() {
    this.soundIsBlocked = false;
    this.#startVideo();
  }

  #set(state) {
    if (this.state === state) return;
    this.state = state;
    this.#video.dataset.on = state === "playing" ? "yes" : "no";
    this.#still.hidden = state !== "still";
    this.#still.dataset.on = state === "still" ? "yes" : "no";
    this.#changed();
  }

  #told(phase, failed, seconds) {
    this.waitsS = phase === "waiting" ? seconds : null;
    if (failed !== null) {
      this.reason = failed.kind;
      this.says = failed.says;
      if (this.state === "playing") this.#keepPicture();
      else if (this.state !== "still") this.#set("lost");
    }
    const line = this.#line;
    if (phase === "stopped") setTimeout(() => line === this.#line && line.start(), REFUSED_AGAIN_MS);
    this.#changed();
  }

  async #connect(signal) {
    const pc = receiver(this.#kinds);
    const tracks = new MediaStream();
    pc.addEventListener("track", ({ track }) => {
      tracks.addTrack(track);
      if (this.#video.srcObject !== tracks) this.#video.srcObject = tracks;
      this.#startVideo();
    });
    return open(pc, this.#whep, { token: this.#token(), signal });
  }

  async #startVideo() {
    this.#video.muted = this.soundIsBlocked || this.#isQuiet;
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError" || this.#video.muted) return;
      this.soundIsBlocked = true;
      await this.#startVideo();
    }
  }

  #keepPicture() {
    const { videoWidth, videoHeight } = this.#video;
    this.lostMs = performance.now();
    if (!videoWidth) {
      this.#set("lost");
      return;
    }
    this.#still.width = videoWidth;
    this.#still.height = videoHeight;
    this.#still.getContext("2d").drawImage(this.#video, 0, 0);
    this.#set("still");
    const at = this.lostMs;
    setTimeout(() => this.state === "still" && this.lostMs === at && this.#set("lost"), STILL_MS);
  }

  /** Watch over a session until it is of no more use. */
  async #hold(session, signal, good) {
    const { pc } = session;
    const beganMs = performance.now();
    const cushion = new Cushion(pc, beganMs);
    const wake = new AbortController();
    signal.addEventListener("abort", () => wake.abort(), { once: true });
    onEnded(pc, () => wake.abort());
    let sample = null;
    let connectedOnce = false;
    let disconnectedMs = null;
    let movedMs = beganMs;
    let tickMs = beganMs;
    while (!signal.aborted) {
      const before = sample;
      sample = await received(pc, before);
      // Stopped meanwhile: what is shown now is another's to say.
      if (signal.aborted) break;
      const now = performance.now();
      cushion.take(sample, now);
      // A machine that slept must not blame the line for its own pause.
      if (now - tickMs > 3000) {
        movedMs = now;
        disconnectedMs = null;
      }
      tickMs = now;
      const link = pc.connectionState;
      connectedOnce ||= link === "connected";
      if (connectedOnce && ended(pc)) return failure("lost", { goodbye: true });
      if (link === "failed" || link === "closed") return failure(connectedOnce ? "lost" : "blocked");
      if (!connectedOnce && now - beganMs > CONNECT_WITHIN_MS) return failure("blocked");
      disconnectedMs = link === "disconnected" ? (disconnectedMs ?? now) : null;
      if (disconnectedMs !== null && now - disconnectedMs > DISCONNECTED_FOR_MS) {
        return failure("lost");
      }
      if (before === null || sample.bytesReceived > before.bytesReceived) movedMs = now;
      if (connectedOnce && now - movedMs > SILENT_AFTER_MS) return failure("lost");

      if (sample.framesDecoded > (before?.framesDecoded ?? 0)) {
        this.framesDecoded += sample.framesDecoded - (before?.framesDecoded ?? 0);
        this.movedMs = now;
        this.reason = this.says = "";
        good();
        this.#set("playing");
      } else if (sample.framesDecoded === 0 && sample.audioBytesReceived > 0 &&
                 (now - beganMs > NO_PICTURE_AFTER_MS || !this.#kinds.includes("video"))) {
        this.reason = this.says = "";
        good();
        this.#set("soundonly");
      } else if (this.state === "still" && !this.shows(now)) {
        this.#set("lost");
      }
      await pause(SAMPLE_EVERY_S, wake.signal);
    }
    return failure("lost");
  }
}
