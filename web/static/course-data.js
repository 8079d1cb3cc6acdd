/** What the pages of courses share: asking the library, where a viewer was, times in words. */

import { token } from "./page.js";

/**
 * Ask the node. A 401 or 403 means that a token is wanted.
 *
 * @returns {Promise<{status: number, value: object|null, sentence: string}>} status 0: no answer
 */
export async function fetchJson(path, timeoutMs = 8000) {
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(), timeoutMs);
  try {
    const response = await fetch(path, {
      headers: bearer(), signal: deadline.signal, cache: "no-cache",
    });
    if (response.ok) return { status: response.status, value: await response.json(), sentence: "" };
    return { status: response.status, value: null, sentence: (await response.text()).trim() };
  } catch {
    return { status: 0, value: null, sentence: "" };
  } finally {
    clearTimeout(timer);
  }
}

/** The header that shows the token, if there is one. */
export function bearer() {
  return token() ? { Authorization: `Bearer ${token()}` } : {};
}

let shown = "";

/** Let pictures and videos of this page show the token too: they cannot send a header. */
export async function shareToken() {
  if (!token() || token() === shown) return;
  try {
    const answer = await fetch("/courses/session", { method: "POST", headers: bearer() });
    if (answer.ok) shown = token();
  } catch {
    // The request after this one says what is wrong.
  }
}

/** Seconds as 1:02:03 or 2:03. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

const KEY = "terrace.seen";
const KEPT = 200;

function all() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    return found && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

/** Where this browser was in a course, in seconds; 0 at the start or after the end. */
export function seenAt(id) {
  const at = all()[id]?.at;
  return typeof at === "number" && Number.isFinite(at) && at > 0 ? at : 0;
}

/** Remember where this browser is in a course; 0 forgets it. */
export function keepSeen(id, at, now = Date.now()) {
  const known = all();
  if (at > 0) known[id] = { at: Math.round(at * 10) / 10, on: now };
  else delete known[id];
  const newest = Object.entries(known).sort(([, a], [, b]) => (b.on ?? 0) - (a.on ?? 0));
  try {
    localStorage.setItem(KEY, JSON.stringify(Object.fromEntries(newest.slice(0, KEPT))));
  } catch {
    // Storage may be forbidden or full; then a course begins at its beginning.
  }
}
