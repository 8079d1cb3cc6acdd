/**
 * The life of a page's line to its node: connect, hold, lose, wait, connect again.
 *
 * What failed and how long to wait are decided by functions without clock or network; `Line` runs
 * them.
 */

import { BadAnswerError, NoAnswerError, NodeError } from "./whip.js";

// Viewers of one node that say goodbye together do not all ask in the same instant.
const GOODBYE_SPREAD_S = 0.1;

/** Waits before the 1st, 2nd, ... attempt in a row, in seconds. */
export const WAITS_S = [1, 2, 3, 5, 8, 12, 15];

/**
 * Why a line is down.
 *
 * @typedef {object} Failure
 * @property {string} kind  a key of the page's strings: absent, lost, unreachable, full, ...
 * @property {string} says  the node's own sentence, "" if it said none
 * @property {number|null} retryAfterS  the wait that the node asked for
 * @property {boolean} final  trying again by itself would not help
 * @property {string} address  where media should have come from, "" if not about that
 * @property {boolean} goodbye  the node ended the session in order: ask again at once
 */

/** @returns {Failure} */
export function failure(kind, more = {}) {
  return { kind, says: "", retryAfterS: null, final: false, address: "", goodbye: false, ...more };
}

/** The node's words for why it refuses -> a page's kind of failure. */
const REASONS = {
  full: "full", packets: "full", cpu: "full", memory: "full", draining: "drained",
  stopping: "drained", parent: "noparent", loop: "noparent", expired: "expired",
};

/** A failure thrown while connecting, in the page's terms. */
export function failureOf(error, hasToken) {
  if (error instanceof NoAnswerError) return failure("unreachable");
  if (error instanceof BadAnswerError) return failure("bad", { says: error.message });
  if (!(error instanceof NodeError)) return failure("trouble", { says: String(error) });
  const more = { says: error.sentence, retryAfterS: error.retryAfterS };
  // A word of the node says more than the status: 503 may be this node's fault or its parent's.
  const kind = REASONS[error.reason];
  if (kind) return failure(kind, { ...more, final: kind === "expired" });
  switch (error.status) {
    case 401: // without a token one is asked for; with one, it is the token that is wrong
      return failure(hasToken ? "forbidden" : "refused", { ...more, final: true });
    case 403:
      return failure("forbidden", { ...more, final: true });
    case 404:
      return failure("absent", more);
    case 409:
      return failure("conflict", more);
    case 429:
    case 503:
      return failure("full", more);
    default:
      return failure(error.status < 500 ? "bad" : "trouble", more);
  }
}

/**
 * Seconds to wait before attempt number `attempt` (0 is the first after a success).
 *
 * A node that names a wait is obeyed, neither earlier nor much later. Up to a quarter is added at
 * random, so that the sites of a county that lost one node do not come back as one.
 *
 * @param {number} attempt
 * @param {number|null} retryAfterS
 * @param {number} random  0 to 1
 */
export function waitBefore(attempt, retryAfterS, random = Math.random()) {
  const wait = retryAfterS ?? WAITS_S[Math.min(attempt, WAITS_S.length - 1)];
  return Math.max(wait, 0.5) * (1 + random / 4);
}

/**
 * Whether the other end has been silent for too long. A machine that stood still itself, and so
 * could not hear, begins to wait anew. Times in ms of one clock.
 */
export class Silence {
  #afterMs;
  #heardMs;
  #lookedMs;

  /** @param {number} afterMs  what is too long; looked at a few times within it */
  constructor(afterMs, nowMs) {
    this.#afterMs = afterMs;
    this.#heardMs = this.#lookedMs = nowMs;
  }

  heard(nowMs) {
    this.#heardMs = nowMs;
  }

  /** Look, regularly. */
  isTooLong(nowMs) {
    if (nowMs - this.#lookedMs > this.#afterMs / 2) this.#heardMs = nowMs;
    this.#lookedMs = nowMs;
    return nowMs - this.#heardMs > this.#afterMs;
  }
}

/** A promise that ends after `seconds`, or sooner if `signal` fires. */
export function pause(seconds, signal) {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, seconds * 1000);
    function done() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
    signal?.addEventListener("abort", done);
  });
}

/**
 * Keeps one line up until stopped.
 *
 * @typedef {object} Plan
 * @property {(signal: AbortSignal) => Promise<import("./whip.js").Session>} connect
 * @property {(session: import("./whip.js").Session, signal: AbortSignal, good: () => void)
 *            => Promise<Failure>} hold  ends when the line is lost; calls `good` once media flows
 * @property {() => boolean} hasToken  whether attempts are made with an access token
 * @property {(state: string, failure: Failure|null, seconds: number) => void} show  state is
 *           "connecting", "waiting" (seconds until the next attempt) or "stopped"
 */
export class Line {
  /** Connections made after the first. */
  reconnects = 0;

  #plan;
  #stop = null;
  #hurry = new AbortController();
  #isHurried = false;
  #made = 0;

  /** @param {Plan} plan */
  constructor(plan) {
    this.#plan = plan;
  }

  /** Begin; a line that already runs is left alone. */
  start() {
    if (this.#stop) return;
    const stop = new AbortController();
    this.#stop = stop;
    this.#run(stop.signal).finally(() => {
      if (this.#stop === stop) this.#stop = null;
    });
  }

  /** End, closing the session at the node. */
  stop() {
    this.#stop?.abort();
    this.#stop = null;
  }

  get running() {
    return this.#stop !== null;
  }

  /** If it is waiting, try now; an attempt that is under way is followed by the next one soon. */
  hurry() {
    this.#isHurried = true;
    this.#hurry.abort();
  }

  async #run(signal) {
    let attempt = 0;
    while (!signal.aborted) {
      this.#plan.show("connecting", null, 0);
      const failed = await this.#once(signal, () => (attempt = 0));
      if (signal.aborted) return;
      if (failed.final) {
        this.#stop = null;
        this.#plan.show("stopped", failed, 0);
        return;
      }
      if (failed.goodbye && attempt === 0) {
        // A node that drains sends us on with its next answer; the picture stands still meanwhile.
        await pause(GOODBYE_SPREAD_S * Math.random(), signal);
        attempt = 1;
        continue;
      }
      if (this.#isHurried) attempt = 0;
      await this.#wait(waitBefore(attempt, failed.retryAfterS), failed, signal);
      attempt += 1;
    }
  }

  async #once(signal, good) {
    let session = null;
    this.#isHurried = false;
    try {
      session = await this.#plan.connect(signal);
      if (this.#made++ > 0) this.reconnects += 1;
      return await this.#plan.hold(session, signal, good);
    } catch (error) {
      return failureOf(error, this.#plan.hasToken());
    } finally {
      session?.close();
    }
  }

  async #wait(seconds, failed, signal) {
    this.#hurry = new AbortController();
    const either = new AbortController();
    const end = () => either.abort();
    signal.addEventListener("abort", end);
    this.#hurry.signal.addEventListener("abort", end);
    const until = performance.now() + seconds * 1000;
    for (let left = seconds; left > 0 && !either.signal.aborted; ) {
      this.#plan.show("waiting", failed, Math.ceil(left));
      await pause(Math.min(1, left), either.signal);
      left = (until - performance.now()) / 1000;
    }
    signal.removeEventListener("abort", end);
  }
}
