/** Secret addresses under which calendars are read elsewhere: made, renewed, taken back. */

import { all, ask, format, hereZone, may, me, problem, refusal } from "./centre.js";
import { change, say, sure } from "./change.js";
import { html } from "./drawing.js";
import { byId, setText, t } from "./page.js";
import { UnitChooser } from "./unitchooser.js";

let feeds = [];
let unit = null;

const when = format(hereZone, { day: "numeric", month: "long", year: "numeric" });
const nameOf = (feed) => feed.title || t("centre.feeds.gone");

/** Show the address of a feed, which nobody can ask for again. */
function reveal(feed) {
  setText(byId("address-title"), t("centre.feeds.of", { name: nameOf(feed) }));
  byId("address").value = feed.url;
  byId("subscribe").setAttribute("href", feed.url.replace(/^https?:/, "webcal:"));
  byId("address-card").hidden = false;
  byId("address-card").scrollIntoView({ block: "nearest" });
  byId("address").focus();
  byId("address").select();
}

function row(feed) {
  const named = (words, key) => {
    const button = html("button", key === "remove" ? "quiet danger" : "", words);
    button.type = "button";
    button.setAttribute("aria-label", t(`centre.feeds.${key}.of`, { name: nameOf(feed) }));
    return button;
  };
  const renew = named(t("centre.feeds.renew"), "renew");
  const remove = named(t("centre.feeds.remove"), "remove");
  renew.addEventListener("click", async () => {
    if (!(await sure(t("centre.feeds.renew.sure", { name: nameOf(feed) }), t("centre.feeds.renew")))) return;
    const answer = await change(`/api/feeds/${feed.id}/renew`, { method: "POST" }, t("centre.feeds.renewed"));
    if (!answer) return;
    await look();
    reveal(answer.body);
  });
  remove.addEventListener("click", async () => {
    if (!(await sure(t("centre.feeds.remove.sure", { name: nameOf(feed) }), t("centre.feeds.remove")))) return;
    if (!(await change(`/api/feeds/${feed.id}`, { method: "DELETE" }, t("centre.feeds.removed")))) return;
    byId("address-card").hidden = true;
    look();
  });
  return html("li", "row-line", "",
    html("span", "row-what", "", html("strong", "row-title", nameOf(feed)),
      html("small", "", `${t(`centre.feeds.kind.${feed.kind}`)} · ${t("centre.feeds.since", { day: when.format(new Date(feed.created_at)) })}`)),
    html("span", "row-acts", "", renew, remove));
}

async function look() {
  const answer = await ask("/api/feeds");
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  feeds = answer.body;
  byId("list").replaceChildren(...feeds.map(row));
  byId("empty").hidden = feeds.length > 0;
}

async function fillPlaces() {
  const kind = byId("kind").value;
  byId("unit-field").hidden = kind === "person";
  byId("place-field").hidden = kind !== "site" && kind !== "station";
  if (byId("place-field").hidden || !unit) return;
  const base = kind === "site" ? "/api/sites" : "/api/places/stations";
  const places = await all(`${base}?unit_id=${unit.id}&limit=500`, 500);
  byId("place").replaceChildren(...places.map((one) => new Option(`${one.name} (${one.code})`, one.id)));
}

function target() {
  const kind = byId("kind").value;
  if (kind === "person") return me.person.id;
  return kind === "unit" ? unit?.id : Number(byId("place").value);
}

byId("add-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const target_id = target();
  if (!target_id) return say(t("centre.feeds.noplace"), "bad");
  const answer = await change("/api/feeds", { method: "POST", body: { kind: byId("kind").value, target_id } }, t("centre.feeds.made"));
  if (!answer) return undefined;
  await look();
  return reveal(answer.body);
});
byId("kind").addEventListener("change", fillPlaces);
byId("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(byId("address").value);
    say(t("centre.feeds.copied"));
  } catch {
    // Without https a page may not; then the keyboard does it.
    byId("address").focus();
    byId("address").select();
    say(t("centre.feeds.nocopy"), "bad");
  }
});

window.terraceStats = () => ({ feeds });
if (may("see")) {
  await new UnitChooser(byId("unit"), "see", (one) => {
    unit = one;
    fillPlaces();
  }).go(0);
} else for (const one of [...byId("kind").options].slice(1)) one.remove();
look();
