/** The catalogue: search as one types, filter, and the posters. */

import { byId, setText, t, tn, tokenForm } from "./page.js";
import { clock, fetchJson, seenAt, shareToken } from "./course-data.js";

const WAIT_MS = 250;
const MAX_TAGS = 24;

const form = byId("find");
const cards = byId("cards");
let tag = "";
let next = null;
let asked = 0;

const showToken = tokenForm(() => load());

function address(after) {
  const query = new URLSearchParams();
  if (form.q.value.trim()) query.set("q", form.q.value.trim());
  if (form.unit.value) query.set("unit", form.unit.value);
  if (tag) query.set("tag", tag);
  const page = query.toString();
  if (after) query.set("after", after);
  return [page, `/api/courses?${query}`];
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function card(course) {
  const item = element("li");
  item.dataset.id = course.id;
  const link = element("a");
  link.href = `/courses/${course.id}`;
  const poster = element("div", "poster");
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.hidden = !course.poster;
  image.addEventListener("error", () => { image.hidden = true; });
  if (course.poster) image.src = `${course.poster}?${course.poster_sha256}`;
  poster.append(image, element("span", "letter", [...course.title][0]));
  poster.append(element("span", "length", clock(course.duration_s)));
  if (!course.complete) poster.append(element("span", "making", t("courses.making")));
  const at = seenAt(course.id);
  if (at) {
    const seen = element("progress", "seen");
    seen.max = course.duration_s;
    seen.value = at;
    seen.setAttribute("aria-label", t("courses.seen", { time: clock(at) }));
    poster.append(seen);
  }
  link.append(poster, element("h2", "", course.title));
  const who = [course.teacher, course.unit].filter(Boolean).join(" · ");
  if (who) link.append(element("p", "", who));
  if (course.tags.length) link.append(element("p", "", course.tags.join(" · ")));
  item.append(link);
  return item;
}

function showTags(tags) {
  const box = byId("tags");
  const names = tags.slice(0, MAX_TAGS).map(([name]) => name);
  if (tag && !names.includes(tag)) names.unshift(tag);
  box.hidden = names.length === 0;
  const had = [...box.children].map(({ dataset }) => dataset.tag).join("\n");
  if (had !== names.join("\n")) {
    box.replaceChildren(...names.map((name) => {
      const button = element("button", "tag", name);
      button.type = "button";
      button.dataset.tag = name;
      button.addEventListener("click", () => {
        tag = tag === name ? "" : name;
        load();
      });
      return button;
    }));
  }
  for (const one of box.children) one.setAttribute("aria-pressed", String(one.dataset.tag === tag));
}

function showUnits(units) {
  const { value } = form.unit;
  const names = units.map(([name]) => name);
  if (value && !names.includes(value)) names.unshift(value);
  const first = form.unit.options[0];
  form.unit.replaceChildren(first, ...names.map((name) => new Option(name, name)));
  form.unit.value = value;
}

async function load(after = null) {
  const turn = ++asked;
  const [page, path] = address(after);
  history.replaceState(null, "", page ? `?${page}` : location.pathname);
  await shareToken();
  const { status, value, sentence } = await fetchJson(path);
  if (turn !== asked) return; // somebody has typed on
  showToken(status === 401 || status === 403);
  if (value === null) {
    setText(byId("note"), sentence ? t("common.says", { sentence }) : t("courses.silent"));
    byId("note").hidden = false;
    return;
  }
  showTags(value.tags);
  showUnits(value.units);
  const made = value.courses.map(card);
  if (after) cards.append(...made);
  else cards.replaceChildren(...made);
  next = value.next;
  byId("more").hidden = next === null;
  const filtered = Boolean(page);
  const words = value.total
    ? tn("courses.found", value.total)
    : t(filtered ? "courses.none" : "courses.empty");
  setText(byId("note"), words);
  byId("note").hidden = false;
  if (after) made[0]?.querySelector("a").focus();
}

let timer = 0;
form.q.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(load, WAIT_MS);
});
// An input method shows letters that are not meant yet.
form.q.addEventListener("compositionend", () => load());
form.unit.addEventListener("change", () => load());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(timer);
  load();
});
byId("more").addEventListener("click", () => load(next));

// The arrow keys go from poster to poster, as a television's remote control does.
cards.addEventListener("keydown", (event) => {
  const links = [...cards.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  if (at < 0) return;
  const columns = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (step === undefined || !links[at + step]) return;
  event.preventDefault();
  links[at + step].focus();
});

const start = new URLSearchParams(location.search);
form.q.value = start.get("q") ?? "";
tag = start.get("tag") ?? "";
if (start.get("unit")) {
  form.unit.append(new Option(start.get("unit"), start.get("unit")));
  form.unit.value = start.get("unit");
}
load();
window.terrace = Object.freeze({ page: "courses" });
