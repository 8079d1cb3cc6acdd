/** What the box says, as its pages use it; see web/station_app.py for the box's own terms. */

import { token } from "./page.js";

/** @returns {import("./tvplan.js").Item} */
function item(one) {
  return {
    id: one.id,
    title: one.title,
    kind: one.kind,
    startsAt: one.starts_at,
    endsAt: one.ends_at ?? one.starts_at + one.duration_s,
    state: one.state ?? "",
    percent: one.percent ?? 0,
    src: one.src ?? "",
    whep: one.whep ?? "",
    subtitles: one.subtitles ?? [],
    trouble: one.trouble ?? "",
  };
}

/** The box's screen in the pages' terms, null if it is not one. */
export function screen(said) {
  if (typeof said?.now !== "number" || !Array.isArray(said.coming)) return null;
  return {
    now: said.now,
    rate: said.rate > 0 ? said.rate : 1,
    timeZone: said.time_zone ?? "UTC",
    clock: said.clock ?? { doubt: false, reason: "" },
    station: { name: said.station?.name ?? "", county: said.station?.county ?? "" },
    show: said.show,
    pairing: said.show === "pairing" ? (said.pairing ?? { state: "no-line", code: "" }) : null,
    current: said.current ? item(said.current) : null,
    coming: said.coming.map(item),
    changesAt: said.changes_at ?? null,
    line: { up: Boolean(said.line?.up), since: said.line?.since ?? 0 },
    faults: said.faults ?? [],
    month: said.month ?? null,
    attendUrl: said.attend_url ?? "",
  };
}

/** The code of this session in the room, from the address that the QR says. */
export const roomCode = new URLSearchParams(location.search).get("code") ?? "";

/**
 * Ask the box or the county and read JSON.
 *
 * @param {string} path
 * @param {{method?: string, body?: object, timeoutMs?: number}} options
 * @returns {Promise<{status: number, body: object|null, sentence: string}>}  status 0: no answer;
 *          sentence: what it says if it refuses
 */
export async function call(path, { method = "GET", body, timeoutMs = 6000 } = {}) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    const response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = await response.text();
    const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
    const read = isJson && text ? JSON.parse(text) : null;
    return {
      status: response.status,
      body: read,
      sentence: response.ok ? "" : (read?.error ?? read?.sentence ?? text).trim().slice(0, 300),
    };
  } catch {
    return { status: 0, body: null, sentence: "" };
  }
}

/** Ask what the television should show; null if the box does not answer, or not in these terms. */
export async function askScreen() {
  return screen((await call("/api/station", { timeoutMs: 4000 })).body);
}

/**
 * Hear what the television should show at the moment it changes.
 *
 * @param {(told: object) => void} then  called with what `screen` returns
 */
export function hearScreen(then) {
  const events = new EventSource("/api/station/events");
  events.addEventListener("screen", ({ data }) => {
    try {
      const told = screen(JSON.parse(data));
      if (told !== null) then(told);
    } catch {
      // Half a message of a program that went away; it is asked in any case.
    }
  });
}

/** Tell the box what is to be seen. Nothing waits for it, and the next report follows soon. */
export function reportPicture(seen) {
  fetch("/api/station/tv", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(seen),
    keepalive: true,
  }).catch(() => {
    // The box's program is not there just now; the screen says so by itself.
  });
}
