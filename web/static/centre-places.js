/** Sites and stations of a unit and all below it: added, renamed, moved, taken out. */

import { all, ask, me, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { change, say, sure } from "./change.js";
import { html } from "./drawing.js";
import { byId, setText, t } from "./page.js";
import { UnitChooser } from "./unitchooser.js";

const BASES = { site: "/api/sites", station: "/api/places/stations" };
const PAGE = 100;

const query = new URLSearchParams(location.search);
let unit = null;
let places = [];
let following = null;
let place = null;
let looked = 0;
const homes = new Map(); // unit id -> unit

const kind = () => byId("kind").value;
const base = () => BASES[kind()];
const mayKeep = (path) => (me.may["keep rooms"] ?? []).some((top) => path.startsWith(top));

async function homeOf(id) {
  if (!homes.has(id)) {
    const { status, body } = await ask(`/api/units/${id}`);
    homes.set(id, status === 200 ? body : { id, name: "", code: "", path: "" });
  }
  return homes.get(id);
}

async function row(one) {
  const home = await homeOf(one.unit_id);
  const pick = html("button", "quiet pick", "", html("span", "", one.name), html("small", "", `${one.code} · ${home.name}`));
  pick.type = "button";
  pick.setAttribute("aria-current", String(one.id === place?.id));
  pick.dataset.place = String(one.id);
  pick.addEventListener("click", async () => {
    await show(one);
    // On a phone the form is below the list.
    byId("one").scrollIntoView({ block: "nearest" });
  });
  return html("li", "", "", pick);
}

async function show(one) {
  place = one;
  for (const pick of byId("list").querySelectorAll(".pick")) pick.setAttribute("aria-current", String(Number(pick.dataset.place) === one?.id));
  byId("one").hidden = one === null;
  if (one === null) return;
  const home = await homeOf(one.unit_id);
  setText(byId("shown"), one.name);
  byId("name").value = one.name;
  byId("code").value = one.code;
  byId("home").value = home.code;
  for (const input of byId("place-form").elements) input.disabled = !mayKeep(home.path);
}

async function look(after = "") {
  if (!unit) return;
  looked += 1;
  const mine = looked;
  const answer = await ask(asked(base(), { unit_id: unit.id, after, limit: PAGE }));
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  const rows = await Promise.all(answer.body.items.map(row));
  if (mine !== looked) return; // another choice was made meanwhile
  places = after ? [...places, ...answer.body.items] : answer.body.items;
  following = answer.body.next;
  if (after) byId("list").append(...rows);
  else byId("list").replaceChildren(...rows);
  byId("empty").hidden = places.length > 0;
  byId("more").hidden = following === null;
}

function choose() {
  show(null);
  byId("add").hidden = !unit || !mayKeep(unit.path);
  setText(byId("add-title"), unit ? t(`centre.places.add.${kind()}`, { unit: unit.name }) : "");
  return look();
}

byId("place-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const code = byId("home").value.trim();
  const body = { name: byId("name").value.trim(), code: byId("code").value.trim() };
  if (code !== (await homeOf(place.unit_id)).code) {
    const found = (await all(`/api/units?search=${encodeURIComponent(code)}`, 200)).find((one) => one.code === code);
    if (!found) return say(t("centre.places.nocode", { code }), "bad");
    body.unit_id = found.id;
  }
  const answer = await change(`${base()}/${place.id}`, { method: "PATCH", body }, t("centre.places.saved"));
  if (!answer) return undefined;
  await look();
  return show(answer.body);
});
byId("remove").addEventListener("click", async () => {
  if (!(await sure(t("centre.places.remove.sure", { name: place.name }), t("centre.places.remove")))) return;
  if (!(await change(`${base()}/${place.id}`, { method: "DELETE" }, t("centre.places.removed", { name: place.name })))) return;
  await show(null);
  look();
});
byId("add-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { unit_id: unit.id, name: byId("add-name").value.trim(), code: byId("add-code").value.trim() };
  const answer = await change(base(), { method: "POST", body }, t("centre.places.added", { name: body.name }));
  if (!answer) return;
  byId("add-form").reset();
  await look();
  show(answer.body);
});
byId("kind").addEventListener("change", choose);
byId("more").addEventListener("click", () => look(following));

if (query.get("kind") === "station") byId("kind").value = "station";
window.terraceStats = () => ({ places, place });
const found = await new UnitChooser(byId("unit"), "see", (one) => {
  unit = one;
  choose();
}).go(Number(query.get("unit")) || 0);
if (!found) problem(t("centre.places.none"));
