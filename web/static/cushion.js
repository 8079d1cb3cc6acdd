/**
 * How long media waits here before it is shown, so that a repeated packet still comes in time.
 *
 * A packet lost on one of several hops comes back after a round trip or two of that hop. Without a
 * cushion the browser has shown a gap by then; with one of 0.4 s nobody sees the loss. A line that
 * has lost nothing for a while needs none, and its viewers are nearer to the presenter.
 */

const LOSSY_MS = 400;
const CLEAN_MS = 0;
const CLEAN_AFTER_MS = 20_000;

export class Cushion {
  #pc;
  #target = null;
  #troubleMs;
  #asked = 0;

  /** @param {RTCPeerConnection} pc @param {number} now  performance.now(), ms */
  constructor(pc, now) {
    this.#pc = pc;
    this.#troubleMs = now;
    this.#set(LOSSY_MS);
  }

  /**
   * Take a sample once a second.
   *
   * @param {{nackCount: number, packetsLost: number}} sample  counts since the beginning
   */
  take(sample, now) {
    const asked = sample.nackCount + Math.max(sample.packetsLost, 0);
    if (asked > this.#asked) this.#troubleMs = now;
    this.#asked = asked;
    this.#set(now - this.#troubleMs > CLEAN_AFTER_MS ? CLEAN_MS : LOSSY_MS);
  }

  #set(ms) {
    if (ms === this.#target) return;
    this.#target = ms;
    // Where a browser lacks the attribute this sets a property that nobody reads.
    for (const receiver of this.#pc.getReceivers()) receiver.jitterBufferTarget = ms;
  }
}
