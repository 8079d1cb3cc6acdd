/**
 * The events of a room: one WebSocket to the nearest node, come back to by itself. The state is a
 * copy of the centre's; what is said here is kept until the node has it.
 */

import { Silence, pause, waitBefore } from "./line.js";
import { token } from "./page.js";

// A node that is asked for nothing still pings; a line that opens in no time is none.
const OPEN_WITHIN_MS = 8000;
const LOOK_EVERY_MS = 500;
// A room that has lost its line in the middle of its turn is not to sit out a long wait.
const SITE_WAITS_AT_MOST_S = 5;
const MOST_WAITING = 20;
const MOST_RECEIPTS = 16;
const SEAT_KEY = "terrace.room.seat";
// What a node closes with when the token does not do: 401 and 403 in the range of private codes.
const REFUSALS = [4401, 4403];

/** A name that nobody can guess, 22 characters that an address may hold. */
export function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
}

/** What this browser keeps, null where it has none or may keep nothing. */
export function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Have this browser keep something. */
export function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Storage may be forbidden: then a reload is another seat.
  }
}

/** The seat of this browser: a reload takes the same one. */
export function seat() {
  let found = kept(SEAT_KEY);
  if (!/^[\w-]{22}$/.test(found ?? "")) {
    found = newName();
    keep(SEAT_KEY, found);
  }
  return found;
}

/**
 * One room, as one of its people.
 *
 * `link` is "connecting", "up", "down" or "refused"; `sentence` is what the node said last when it
 * refused something; `secondsLeft` counts to the next attempt.
 */
export class RoomClient {
  link = "connecting";
  sentence = "";
  secondsLeft = 0;
  node = "";
  /** Key -> value, as the centre has set them. */
  state = {};

  #room;
  #as;
  #changed;
  #socket = null;
  /** Gives the connection up that there is now, without asking the other end. */
  #lost = () => {};
  #stop = new AbortController();
  #hurry = new AbortController();
  #offsetS = 0;
  #waiting = new Map();
  #lasting = new Map();
  #receipts;
  #receiptsKey;

  /**
   * @param {number|string} room  the number of the meeting
   * @param {string} as  "site:12", "person:3" or "viewer"
   * @param {(what: string[]) => void} changed  names of keys of the state, or "link", "error"
   */
  constructor(room, as, changed) {
    this.#room = room;
    this.#as = as;
    this.#changed = changed;
    this.#receiptsKey = `terrace.room.receipts.${room}`;
    try {
      this.#receipts = JSON.parse(kept(this.#receiptsKey) ?? "{}");
    } catch {
      this.#receipts = {};
    }
  }

  /** Who this page is in the room. */
  get as() {
    return this.#as;
  }

  /** The node's clock, seconds since 1970. */
  now() {
    return Date.now() / 1000 + this.#offsetS;
  }

  /** What this browser answered in a poll, null if nothing is counted yet. */
  answered(poll) {
    const receipt = this.#receipts[poll];
    return receipt && receipt.n > 0 ? receipt.choice : null;
  }

  /** What waits for the node, by kind. */
  isWaiting(kind) {
    return [...this.#waiting.values()].some((one) => one.t === kind);
  }

  start() {
    this.#run();
    addEventListener("online", () => this.hurry());
    // A socket whose network went away would look open for minutes.
    addEventListener("offline", () => this.#lost());
  }

  hurry() {
    this.#hurry.abort();
  }

  stop() {
    this.#stop.abort();
    this.#lost();
  }

  /** Raise the hand with a line of text, or take it down; said again after a line that broke. */
  hand(up, text = "") {
    this.#last("hand", { t: "hand", up, text });
  }

  /** What is sent of this place now; said again after a line that broke. */
  media(camera, microphone, hidden) {
    this.#last("media", { t: "media", camera, microphone, hidden });
  }

  answer(poll, choice) {
    // Until there is a receipt, this says where the answer may have been counted already.
    if (this.node && !this.#receipts[poll]) this.#keepReceipt(poll, { node: this.node, n: 0, choice });
    this.#once(`answer ${poll}`, { t: "answer", poll, choice });
  }

  ballot(ballot, vote) {
    this.#once(`ballot ${ballot}`, { t: "ballot", ballot, vote });
  }

  say(text) {
    const id = newName();
    this.#once(id, { t: "say", text, id });
  }

  lineTest(result) {
    const id = newName();
    this.#once(id, { t: "linetest", result, id });
  }

  rollCall(presence, people) {
    const id = newName();
    this.#once(id, { t: "rollcall", presence, people, id });
  }

  #last(kind, message) {
    this.#lasting.set(kind, message);
    this.#send(message);
  }

  #once(key, message) {
    if (this.#waiting.size >= MOST_WAITING) this.#waiting.delete(this.#waiting.keys().next().value);
    this.#waiting.set(key, message);
    this.#send(message);
  }

  #send(message) {
    if (this.link === "up") this.#socket.send(JSON.stringify(message));
  }

  #set(link, sentence = "", secondsLeft = 0) {
    this.link = link;
    this.sentence = sentence;
    this.secondsLeft = secondsLeft;
    this.#changed(["link"]);
  }

  async #run() {
    const { signal } = this.#stop;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      this.#set("connecting", this.sentence);
      const ended = await this.#connected();
      if (signal.aborted) return;
      if (ended.wasUp) attempt = 0;
      this.#hurry = new AbortController();
      const link = ended.refused ? "refused" : "down";
      for (let left = this.#wait(attempt); left > 0; left -= 1) {
        if (this.#hurry.signal.aborted) break;
        this.#set(link, ended.sentence, left);
        await pause(1, this.#hurry.signal);
      }
    }
  }

  #wait(attempt) {
    const seconds = Math.ceil(waitBefore(attempt, null));
    return this.#as.startsWith("site:") ? Math.min(seconds, SITE_WAITS_AT_MOST_S) : seconds;
  }

  /** One connection from its beginning to its end. */
  #connected() {
    const address = new URL(`/room/${this.#room}/events`, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    this.#socket = socket;
    let wasUp = false;
    let isFirst = true;
    let refusal = "";
    return new Promise((resolve) => {
      const over = new AbortController();
      const { signal } = over;
      const end = (code, reason) => {
        clearTimeout(late);
        clearInterval(watch);
        over.abort();
        resolve({ wasUp, refused: REFUSALS.includes(code), sentence: reason || refusal });
      };
      this.#lost = () => {
        // Over a line that is gone this takes a browser many seconds, in which it hears of nothing.
        socket.close();
        end(0, "");
      };
      const late = setTimeout(this.#lost, OPEN_WITHIN_MS);
      let silence = null;
      const watch = setInterval(() => silence?.isTooLong(performance.now()) && this.#lost(), LOOK_EVERY_MS);
      socket.addEventListener("open", () => {
        socket.send(JSON.stringify({
          t: "hello", token: token(), as: this.#as, seat: seat(), receipts: this.#receipts,
        }));
      }, { signal });
      socket.addEventListener("message", ({ data }) => {
        silence?.heard(performance.now());
        const told = JSON.parse(data);
        if (told.t === "welcome") {
          clearTimeout(late);
          wasUp = true;
          this.node = told.node;
          this.#offsetS = told.now - Date.now() / 1000;
          if (told.silent_s) silence = new Silence(1000 * told.silent_s, performance.now());
          this.#set("up");
          for (const one of [...this.#lasting.values(), ...this.#waiting.values()]) this.#send(one);
        } else if (told.t === "state") {
          this.#take(told.set, isFirst);
          isFirst = false;
        } else if (told.t === "counted") {
          this.#counted(told.poll, told.receipt);
        } else if (told.t === "kept") {
          this.#done(told.id);
        } else if (told.t === "error") {
          refusal = told.sentence;
          this.sentence = told.sentence;
          this.#changed(["error"]);
        }
      }, { signal });
      socket.addEventListener("close", ({ code, reason }) => end(code, reason), { signal });
    });
  }

  /** The first state of a connection is all there is; the next ones are what changed. */
  #take(set, isWhole) {
    const changed = new Set(Object.keys(set));
    if (isWhole) {
      for (const key of Object.keys(this.state)) changed.add(key);
      this.state = {};
    }
    for (const [key, value] of Object.entries(set)) {
      if (value === null) delete this.state[key];
      else this.state[key] = value;
    }
    this.#changed([...changed]);
  }

  #counted(poll, receipt) {
    const answer = this.#waiting.get(`answer ${poll}`);
    this.#keepReceipt(poll, { ...receipt, choice: answer?.choice ?? this.#receipts[poll]?.choice ?? 0 });
    this.#send({ t: "have", poll: Number(poll), receipt });
    this.#done(`answer ${poll}`);
  }

  #keepReceipt(poll, receipt) {
    this.#receipts[poll] = receipt;
    const [oldest] = Object.keys(this.#receipts);
    if (Object.keys(this.#receipts).length > MOST_RECEIPTS) delete this.#receipts[oldest];
    keep(this.#receiptsKey, JSON.stringify(this.#receipts));
  }

  #done(key) {
    this.#waiting.delete(key);
    this.#changed(["kept"]);
  }
}
