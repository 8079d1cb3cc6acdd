/** A period of whole months: the form fields `from-month` and `to-month`, as days for the API. */

import { dayOf, hereZone } from "./centre.js";
import { byId } from "./page.js";

/** Begin with this month, and call `changed` for each sensible choice. */
export function openPeriod(changed) {
  const month = dayOf(new Date(), hereZone).slice(0, 7);
  for (const id of ["from-month", "to-month"]) {
    if (!byId(id).value) byId(id).value = month;
    byId(id).addEventListener("change", () => period() && changed());
  }
}

/** {from, to, months}; null while the fields make no sense. */
export function period() {
  const [first, last] = ["from-month", "to-month"].map((id) => /^(\d{4})-(\d{2})$/.exec(byId(id).value));
  if (!first || !last) return null;
  const months = (last[1] - first[1]) * 12 + (last[2] - first[2]) + 1;
  if (months < 1 || months > 120) return null;
  const end = new Date(Date.UTC(Number(last[1]), Number(last[2]), 0)).toISOString().slice(0, 10);
  return { from: `${first[0]}-01`, to: end, months };
}
