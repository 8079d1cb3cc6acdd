/** What the box says, as its pages use it. The only module that knows the box's JSON. */

import { ask } from "./page.js";

/** @returns {import("./tvplan.js").Item} */
function item(one) {
  return {
    id: one.id,
    title: one.title,
    kind: one.kind,
    startsAt: one.starts_at,
    durationS: one.duration_s,
    state: one.state ?? "waiting",
    percent: one.percent ?? 0,
    src: one.src ?? "",
    whep: one.whep ?? "",
    subtitles: one.subtitles ?? [],
  };
}

/**
 * Ask the box what the television should show.
 *
 * @returns {Promise<object|null>}  null if it does not answer, or not in these terms
 */
export async function askScreen() {
  const said = await ask("/api/station/screen", 4000);
  if (typeof said?.now !== "number") return null;
  return {
    now: said.now,
    rate: said.rate ?? 1,
    timeZone: said.time_zone ?? "UTC",
    clock: { doubt: Boolean(said.clock?.doubt), reason: said.clock?.reason ?? "" },
    station: { name: said.station?.name ?? "", county: said.station?.county ?? "" },
    pairing: said.pairing ?? null,
    programme: said.programme ?? "",
    items: [said.current, ...(said.next ?? [])].filter(Boolean).map(item),
    line: { up: Boolean(said.line?.up) },
    faults: said.faults ?? [],
    month: said.month ?? null,
    attendUrl: said.attend_url ?? "",
  };
}

/** Tell the box what is to be seen. Nothing waits for it, and the next report follows soon. */
export function reportPicture(seen) {
  fetch("/api/station/seen", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(seen),
    keepalive: true,
  }).catch(() => {
    // The box's program is not there just now; the screen says so by itself.
  });
}
