/** Parts that several pages of a room draw in the same way: its head, who is seen, what is asked. */

import { html, icon, replaceIfChanged, svg } from "./drawing.js";
import { byId, nodeName, number, setIcon, setText, t, tn } from "./page.js";
import {
  clockWords, decks, isOn, isOver, leader, nameOf, pageAt, pageNow, seconds, shares, siteOf, unitOf,
} from "./room-view.js";

const lang = document.documentElement.lang;
const timeOfDay = new Intl.DateTimeFormat(lang, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** A moment as people read it from a clock, "–" for none. */
export const timeWords = (moment) => {
  const at = seconds(moment);
  return at === null ? "–" : timeOfDay.format(at * 1000);
};

const LINKS = {
  connecting: ["waiting", "wait"], up: ["live", "ready"], down: ["lost", "broken"], refused: ["lost", "key"],
};

/** The chips of the head: whether the meeting is on, and how the line of events is. */
export function drawHead(client) {
  const { state } = client;
  const { meeting } = state;
  if (meeting) {
    setText(byId("title"), meeting.title);
    if (byId("under")) setText(byId("under"), t("room.under", { unit: meeting.unit, node: nodeName }));
    document.title = `${meeting.title} · ${nodeName} · Terrace`;
  }
  const word = !meeting ? "unknown" : isOn(state) ? "on" : isOver(state) ? "over" : "before";
  byId("air-state").dataset.state = { unknown: "calm", on: "live", over: "calm", before: "waiting" }[word];
  setIcon("air-state-icon", { unknown: "wait", on: "people", over: "ready", before: "clock" }[word]);
  setText(byId("air-state-word"), t(`room.state.${word}`));
  const [tone, sign] = LINKS[client.link];
  byId("link").dataset.state = tone;
  setIcon("link-icon", sign);
  setText(byId("link-word"), client.link === "down" && client.secondsLeft > 0
    ? tn("room.link.again", client.secondsLeft) : t(`room.link.${client.link}`));
}

/** What a source is called: its site's name, or what it is to the meeting. */
export function sourceName(state, source) {
  const name = nameOf(state, source) || (source === "presenter" ? (state.meeting?.presenter ?? "") : "");
  if (name) return name;
  return siteOf(source) === null ? t(`room.source.${source}`) : t("room.source.site", { n: siteOf(source) });
}

/** The clock of the node in the head. */
export function drawClock(client) {
  setText(byId("clock"), timeOfDay.format(client.now() * 1000));
}

/** The name plate of who is the programme. */
export function drawPlate(state) {
  const source = state.programme?.source;
  const name = source ? sourceName(state, source) : "";
  byId("plate").hidden = !name;
  setText(byId("plate-name"), name);
  const unit = source ? unitOf(state, source) : "";
  setText(byId("plate-unit"), unit === name ? "" : unit);
}

/** The words in place of a programme that cannot be seen. */
export function drawCurtain(state, picture) {
  byId("programme-box").dataset.on = picture.isThere ? "yes" : "no";
  byId("stands").hidden = !picture.stands;
  if (picture.isThere) return;
  const kind = isOver(state) ? "over" : !state.meeting || (!isOn(state) && !state.programme?.source) ? "before"
    : picture.reason === "absent" || state.programme?.lost ? "waiting"
    : picture.state === "connecting" ? "connecting" : "lost";
  setIcon("programme-icon", { over: "ready", before: "clock", waiting: "pause", connecting: "wait", lost: "broken" }[kind]);
  setText(byId("programme-title"), t(`room.programme.${kind}.title`));
  setText(byId("programme-detail"), kind === "before" && state.meeting
    ? t("room.programme.before.at", { time: timeWords(state.meeting.starts_at) })
    : t(`room.programme.${kind}.detail`));
}

/* ---- slides ---- */

const shown = { sha256: "", address: "" };
// The next page, which this browser has before it is turned to.
const next = { sha256: "", address: "" };

/** Fetch a page of a deck; its address as an object, "" if it is not there. */
export async function pagePicture(sha256, bearer, query = "") {
  try {
    const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
    const response = await fetch(`/room/files/${sha256}${query}`, { headers });
    return response.ok ? URL.createObjectURL(await response.blob()) : "";
  } catch {
    return "";
  }
}

/** Show the page of the meeting in #slide; the old one stays until the new one is there. */
export async function drawSlide(state, bearer) {
  const page = pageNow(state);
  byId("slide-box").hidden = page === null;
  if (page === null) return lookAhead(state, bearer);
  if (page.sha256 === shown.sha256) return;
  shown.sha256 = page.sha256;
  const address = next.sha256 === page.sha256 && next.address ? next.address : await pagePicture(page.sha256, bearer);
  if (address === next.address) Object.assign(next, { sha256: "", address: "" });
  if (shown.sha256 !== page.sha256) return URL.revokeObjectURL(address);
  if (!address) {
    shown.sha256 = ""; // asked again with the next change
    return undefined;
  }
  if (shown.address) URL.revokeObjectURL(shown.address);
  shown.address = address;
  byId("slide").src = address;
  const words = t("room.slide", { n: number(page.number), of: number(page.of) });
  byId("slide").alt = words;
  if (byId("slide-words")) setText(byId("slide-words"), words);
  return lookAhead(state, bearer);
}

/**
 * Have the next page here while nobody waits for it: turning to it takes no time on a thin line.
 * Before slides are shown that is the first page of the first deck.
 */
async function lookAhead(state, bearer) {
  const { deck = decks(state)[0], page = 0 } = state.slides ?? {};
  const { sha256 } = pageAt(state, deck, page + 1) ?? {};
  if (!sha256 || next.sha256 === sha256) return;
  if (next.address) URL.revokeObjectURL(next.address);
  Object.assign(next, { sha256, address: "" });
  const address = await pagePicture(sha256, bearer, "?ahead=1");
  if (next.sha256 === sha256 && address) next.address = address;
  else URL.revokeObjectURL(address);
}

/* ---- polls and ballots ---- */

/**
 * Bars, one for each answer, with its number and share in words.
 *
 * @param {HTMLElement} place
 * @param {string[]} options
 * @param {number[]} counts
 */
export function drawBars(place, options, counts) {
  const first = leader(counts);
  const rows = shares(counts.length ? counts : options.map(() => 0));
  if (place.children.length !== options.length || place.dataset.options !== options.join("\n")) {
    place.dataset.options = options.join("\n");
    place.replaceChildren(...options.map((option) => html("div", "bar-row", "",
      html("span", "bar-name", option), html("span", "bar-number"),
      html("span", "bar-track", "", html("span", "bar-share")))));
  }
  rows.forEach(({ count, share }, index) => {
    const row = place.children[index];
    row.dataset.first = index === first ? "yes" : "no";
    setText(row.children[1], t("room.share", { count: number(count), percent: number(100 * share) }));
    row.children[2].firstElementChild.style.setProperty("--share", String(share));
  });
}

/** A ring that says which share of those who may vote has voted. */
export function drawRing(share, words) {
  const radius = 42;
  const round = 2 * Math.PI * radius;
  const ring = svg("svg", { class: "ring", viewBox: "0 0 100 100", role: "img", focusable: "false", "aria-label": words });
  ring.append(
    svg("circle", { class: "ring-ground", cx: 50, cy: 50, r: radius }),
    svg("circle", {
      class: "ring-share", cx: 50, cy: 50, r: radius, transform: "rotate(-90 50 50)",
      "stroke-dasharray": `${round * Math.min(1, Math.max(0, share))} ${round}`,
    }),
    svg("text", { x: 50, y: 57, "text-anchor": "middle" }, `${number(100 * share)} %`),
  );
  return ring;
}

/**
 * The card of the poll: its answers as buttons while it is open, its result as bars when shown.
 *
 * @param {import("./room-client.js").RoomClient} client
 * @returns {boolean}  whether there is a poll to see
 */
export function drawPoll(client) {
  const { poll } = client.state;
  byId("poll-card").hidden = !poll || !(poll.open || poll.shown);
  if (byId("poll-card").hidden) return false;
  const mine = client.answered(poll.id);
  setText(byId("poll-question"), poll.question);
  const place = byId("poll-options");
  const isWaiting = client.isWaiting("answer");
  byId("poll-chip").hidden = mine === null && poll.open;
  setIcon("poll-chip-icon", poll.open ? "ready" : "off");
  setText(byId("poll-chip-word"), t(poll.open ? "room.poll.counted" : "room.poll.closed"));
  if (poll.open && mine === null) {
    replaceIfChanged(place, `ask ${poll.id} ${poll.options.join("\n")}`, () => poll.options.map((option, index) => {
      const button = html("button", "option big", "", html("kbd", "", String(index + 1)), html("span", "", option));
      button.type = "button";
      button.addEventListener("click", () => client.answer(poll.id, index));
      return button;
    }));
    for (const button of place.children) button.disabled = isWaiting;
    setText(byId("poll-hint"), t(isWaiting ? "room.poll.sending" : "room.poll.choose"));
    return true;
  }
  if (poll.shown) {
    if (place.dataset.key !== `bars ${poll.id}`) {
      place.dataset.key = `bars ${poll.id}`;
      delete place.dataset.options;
      place.replaceChildren();
    }
    drawBars(place, poll.options, poll.counts ?? []);
    setText(byId("poll-hint"), tn("room.poll.voters", poll.voters ?? 0));
    return true;
  }
  replaceIfChanged(place, `mine ${poll.id} ${mine}`, () =>
    mine === null ? [] : [html("p", "option-mine", "", icon("ready"), html("span", "", poll.options[mine]))]);
  setText(byId("poll-hint"), t("room.poll.later"));
  return true;
}

/** How long a ballot is open still, in words. */
export function ballotLeft(client) {
  const { ballot } = client.state;
  const left = seconds(ballot?.until);
  return left === null ? t("room.ballot.open") : t("room.ballot.left", { time: clockWords(left - client.now()) });
}

/** The questions and remarks that the host has let through. */
export function drawChat(state) {
  byId("chat-card").hidden = !state.chat?.on;
  if (byId("chat-card").hidden) return;
  const items = state.chat.items ?? [];
  replaceIfChanged(byId("chat"), JSON.stringify(items), () =>
    items.map(({ name, unit, text }) => html("li", "", "", html("strong", "", name || unit || ""), html("span", "", text))));
}

/* ---- keys ---- */

/**
 * Call what belongs to a key, unless somebody is writing.
 *
 * @param {Record<string, (event: KeyboardEvent) => void>} actions  by `event.key`, in small letters
 */
export function onKeys(actions) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest?.("input:not([type=radio], [type=checkbox]), textarea, select, dialog")) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = actions[key];
    // A button that has the keyboard is pressed by Space and Enter itself.
    if (!action || (["Enter", " "].includes(key) && event.target.closest?.("button, a, summary"))) return;
    event.preventDefault();
    action(event);
  });
}

/** Fill the screen with the page, or stop. */
export function toggleFull() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
}
