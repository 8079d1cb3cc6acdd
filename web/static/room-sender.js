/** Keeps what a place sends on its way to the node: one WHIP session, come back to by itself. */

import { Line, failure, pause } from "./line.js";
import { ask, streamIn, token } from "./page.js";
import { sent } from "./stats.js";
import { ended, layers, open, sender } from "./whip.js";

const SAMPLE_EVERY_S = 1;
const CONNECT_WITHIN_MS = 10_000;
const DISCONNECTED_FOR_MS = 3000;
const DEAF_AFTER_MS = 6000;
// Two samples without a report or a check's answer; the node sends some every second.
const SILENT_AFTER_MS = 2500;
const TAKEN_OVER_CHECK_S = 1.2;
const TAKEN_OVER_AFTER = 3;

export class Sender {
  /** "off", "connecting", "up", "down" or "stopped" */
  state = "off";
  /** Why it is down: line.js's Failure, null if it is not. */
  failure = null;
  secondsLeft = 0;
  /** The newest numbers of stats.sent, null if nothing is sent. */
  sample = null;

  #stream;
  #headers;
  #what;
  #changed;
  #line;
  #pc = null;
  #heardMs = 0;
  #losses = 0;

  /**
   * @param {string} stream
   * @param {Record<string, string>} headers  for the POST
   * @param {() => {video: MediaStreamTrack|null, audio: MediaStreamTrack|null, codec: string,
   *          maxBitrateBps: number}} what  asked each time that a session is made
   * @param {() => void} changed
   */
  constructor(stream, headers, what, changed) {
    this.#stream = stream;
    this.#headers = headers;
    this.#what = what;
    this.#changed = changed;
    this.#line = new Line({
      connect: (signal) => this.#connect(signal),
      hold: (session, signal, good) => this.#hold(session, signal, good),
      hasToken: () => token() !== "",
      show: (phase, failed, seconds) => this.#told(phase, failed, seconds),
    });
  }

  get reconnects() {
    return this.#line.reconnects;
  }

  /** Whether nothing comes back from the node just now, although the session is not given up yet. */
  get isSilent() {
    return this.state === "up" && performance.now() - this.#heardMs > SILENT_AFTER_MS;
  }

  start() {
    this.#line.start();
  }

  stop() {
    this.#line.stop();
    this.#pc = null;
    this.sample = null;
    this.#set("off");
  }

  hurry() {
    this.#line.hurry();
  }

  /** Another camera or microphone, without another session. */
  async replace(kind, track) {
    const found = this.#pc?.getTransceivers().find(({ receiver }) => receiver.track.kind === kind);
    await found?.sender.replaceTrack(track);
  }

  /** A larger or smaller picture; other layers need another session. */
  async resize() {
    const wanted = layers(this.#what().maxBitrateBps);
    const picture = this.#pc?.getTransceivers().find(({ receiver }) => receiver.track.kind === "video");
    if (!picture) return;
    const parameters = picture.sender.getParameters();
    if (parameters.encodings.length !== wanted.length) {
      this.stop();
      this.start();
      return;
    }
    parameters.encodings.forEach((one, index) => {
      one.maxBitrate = wanted[index].maxBitrate;
    });
    await picture.sender.setParameters(parameters);
  }

  #set(state, failed = null, seconds = 0) {
    this.state = state;
    this.failure = failed;
    this.secondsLeft = seconds;
    this.#changed();
  }

  #told(phase, failed, seconds) {
    if (phase === "connecting") return this.#set("connecting", this.failure);
    this.#pc = null;
    this.sample = null;
    return this.#set(phase === "stopped" ? "stopped" : "down", failed, seconds);
  }

  async #connect(signal) {
    this.sample = null;
    const what = this.#what();
    const pc = sender(what);
    this.#pc = pc;
    const startKbps = Math.round((what.maxBitrateBps / 1000) * 0.7);
    const stereo = what.audio?.getSettings().channelCount === 2;
    const endpoint = `/whip/${encodeURIComponent(this.#stream)}`;
    return open(pc, endpoint, {
      token: token(), stereo, startKbps, headers: this.#headers, signal,
    });
  }

  async #hold(session, signal, good) {
    const { pc } = session;
    const beganMs = performance.now();
    let connectedOnce = false;
    let disconnectedMs = null;
    this.#heardMs = beganMs;
    while (!signal.aborted) {
      const now = performance.now();
      const link = pc.connectionState;
      if (link === "failed" || link === "closed" || ended(pc)) return this.#lost(session, connectedOnce, signal);
      if (link === "connected" && !connectedOnce) {
        connectedOnce = true;
        this.#heardMs = now;
        this.#set("up");
      }
      if (!connectedOnce && now - beganMs > CONNECT_WITHIN_MS) return this.#lost(session, false, signal);
      disconnectedMs = link === "disconnected" ? (disconnectedMs ?? now) : null;
      if (disconnectedMs !== null && now - disconnectedMs > DISCONNECTED_FOR_MS) {
        return this.#lost(session, true, signal);
      }
      const before = this.sample;
      this.sample = await sent(pc, before);
      if (this.sample.bytesHeard !== before?.bytesHeard) this.#heardMs = now;
      if (connectedOnce && now - this.#heardMs > DEAF_AFTER_MS) return this.#lost(session, true, signal);
      if (this.sample.bytesSent > 0) {
        good();
        if (now - beganMs > 20_000) this.#losses = 0;
      }
      this.#changed();
      await pause(connectedOnce ? SAMPLE_EVERY_S : 0.2, signal);
    }
    return failure("lost");
  }

  /**
   * The session is gone. A line that breaks is taken up again; one that breaks again and again while
   * the node still gets media under this name was taken by another page of the same place, and two
   * pages must not throw each other out for ever.
   */
  async #lost(session, connectedOnce, signal) {
    session.close();
    if (!connectedOnce) return failure("blocked", { address: session.address });
    this.#set("down");
    this.#losses += 1;
    if (this.#losses < TAKEN_OVER_AFTER) return failure("lost");
    const before = await this.#packetsAtNode();
    await pause(TAKEN_OVER_CHECK_S, signal);
    const after = await this.#packetsAtNode();
    if (before === null || after === null || after <= before) return failure("lost");
    return failure("taken_over", { final: true });
  }

  async #packetsAtNode() {
    const here = streamIn(await ask("/api/node"), this.#stream);
    return here?.source === "publisher" ? here.tracks.reduce((sum, { packets }) => sum + packets, 0) : null;
  }
}
