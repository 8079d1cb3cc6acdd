/** The node's index: who this node is, and what is live here. */

import {
  ask, bitrate, byId, has, nodeName, number, setIcon, setText, streamIn, t, tn,
} from "./page.js";

const POLL_EVERY_MS = 3000;
const STREAM_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,64}$/;

const ICONS = { live: "live", waiting: "pause", starting: "wait" };

function link(href, icon, words, primary) {
  const made = document.createElement("a");
  made.href = href;
  made.className = primary ? "button primary" : "button";
  const svg = byId("node-icon").cloneNode(true);
  svg.removeAttribute("id");
  svg.firstElementChild.setAttribute("href", `#i-${icon}`);
  const text = document.createElement("span");
  text.textContent = words;
  made.append(svg, text);
  return made;
}

function newCard(name) {
  const card = document.createElement("li");
  card.className = "card stream";
  card.dataset.name = name;
  const title = document.createElement("h3");
  title.textContent = name;
  const chip = byId("node-chip").cloneNode(true);
  for (const one of [chip, ...chip.querySelectorAll("[id]")]) one.removeAttribute("id");
  const facts = document.createElement("p");
  facts.className = "facts";
  const actions = document.createElement("p");
  actions.className = "row";
  const segment = encodeURIComponent(name);
  actions.append(
    link(`/watch/${segment}`, "play", t("index.watch"), true),
    link(`/present/${segment}`, "camera", t("index.present"), false),
  );
  card.append(title, chip, facts, actions);
  return card;
}

function fill(card, one) {
  const state = one.state in ICONS ? one.state : "starting";
  const chip = card.querySelector(".chip");
  chip.dataset.state = state;
  chip.querySelector("use").setAttribute("href", `#i-${ICONS[state]}`);
  setText(chip.querySelector("span"), t(`index.stream.${state}`));
  const video = one.tracks?.find(({ kind }) => kind === "video");
  setText(
    card.querySelector(".facts"),
    [
      tn("index.viewers", one.viewers),
      one.bitrate_in_bps > 0 && bitrate(one.bitrate_in_bps),
      video?.codec,
    ]
      .filter(Boolean)
      .join(" · "),
  );
}

function showStreams(streams) {
  const list = byId("streams");
  const names = new Set(streams.map(({ name }) => name));
  const cards = new Map([...list.children].map((card) => [card.dataset.name, card]));
  for (const [name, card] of cards) if (!names.has(name)) card.remove();
  const ordered = [...streams].sort((a, b) => a.name.localeCompare(b.name));
  for (const [index, one] of ordered.entries()) {
    const card = cards.get(one.name) ?? newCard(one.name);
    fill(card, one);
    // A card in its place is left there: moving it would take the keyboard's focus away.
    if (list.children[index] !== card) list.insertBefore(card, list.children[index] ?? null);
  }
  setText(byId("streams-note"), streams.length ? "" : t("index.empty"));
  byId("streams-note").hidden = streams.length > 0;
}

/** The node's own health as [icon, state, word, sentence]. */
function health(node) {
  if (node === null) {
    return ["broken", "lost", t("index.node.silent"), t("index.node.silent_detail")];
  }
  const viewers = tn("index.viewers", node.viewers ?? 0);
  if (node.parent_state === "connected") {
    return ["live", "live", t("index.node.running"),
      `${viewers} · ${t("index.parent.connected", { rtt: number(node.parent_rtt_ms ?? 0, 1) })}`];
  }
  if (has(`index.parent.${node.parent_state}`)) {
    return ["warn", "warn", t("index.node.running"),
      `${viewers} · ${t(`index.parent.${node.parent_state}`)}`];
  }
  return ["live", "live", t("index.node.running"), viewers];
}

async function poll() {
  if (document.hidden) return;
  const node = await ask("/api/node");
  const [icon, state, word, sentence] = health(node);
  byId("node-chip").dataset.state = state;
  setIcon("node-icon", icon);
  setText(byId("node-word"), word);
  setText(byId("node-detail"), sentence);
  if (node) {
    showStreams(node.streams ?? []);
  } else {
    // What was live is left to see, but nobody should take it for the present.
    setText(byId("streams-note"), t("index.node.silent_detail"));
    byId("streams-note").hidden = false;
  }
  last = node;
}

let last = null;

byId("go").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  const good = STREAM_NAME.test(name);
  byId("name").setAttribute("aria-invalid", String(!good));
  setText(byId("name-hint"), t(good ? "index.name.hint" : "index.name.bad"));
  if (!good) {
    byId("name").focus();
    return;
  }
  const page = event.submitter?.value === "present" ? "present" : "watch";
  location.assign(`/${page}/${encodeURIComponent(name)}`);
});

window.terraceStats = () => ({
  node: nodeName, streams: (last?.streams ?? []).map(({ name }) => name),
  find: (name) => streamIn(last, name),
});
window.terrace = Object.freeze({ page: "index", stats: window.terraceStats });

document.addEventListener("visibilitychange", poll);
setInterval(poll, POLL_EVERY_MS);
poll();
