/** Correcting and removing a course: a dialog of its player, for those who may. */

import { byId, setText, stream as courseId, t } from "./page.js";
import { call, keep } from "./centre-api.js";
import { bearer, clock, fetchJson } from "./course-data.js";

const BY_TOKEN = `/api/courses/${courseId}`;
const SIGNED_IN = `/api/library/courses/${courseId}`;
const CHAPTER = /^\s*(?:(\d{1,2}):)?(\d{1,3}):(\d{1,2})\s+(\S.*)$/;
const MOST_SHOWN = 6;

const form = byId("edit-form");
const dialog = byId("edit");
const sure = byId("remove-sure");
let course = null;
let signedIn = false;
let uses = [];
let done = () => {};

/** Show the way to the dialog, if there is one for who looks on. `changed` is called afterwards. */
export async function offerEdit(one, changed) {
  course = one;
  done = changed;
  const { value } = await fetchJson(`${BY_TOKEN}/uses`);
  if (!value || !(value.may_edit || value.centre)) return;
  signedIn = !value.may_edit;
  uses = value.uses;
  byId("edit-open").hidden = false;
}

/** Ask the library, with the page's token or as who signed in at the centre. */
async function ask(method, query = "", body = undefined) {
  if (signedIn) return call(SIGNED_IN + query, { method, body });
  try {
    const headers = { ...bearer(), ...(body ? { "Content-Type": "application/json" } : {}) };
    const answer = await fetch(BY_TOKEN + query, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    const isJson = (answer.headers.get("Content-Type") ?? "").startsWith("application/json");
    const said = isJson && text ? JSON.parse(text) : null;
    return { status: answer.status, body: said, sentence: said?.error ?? (isJson ? "" : text.trim()) };
  } catch {
    return { status: 0, body: null, sentence: "" };
  }
}

function trouble({ status, sentence }) {
  if (status === 0) return t("course.edit.silent");
  if (status === 409) return t("course.edit.changed");
  return t("common.says", { sentence: sentence || String(status) });
}

function fill() {
  form.title.value = course.title;
  form.teacher.value = course.teacher;
  form.unit.value = course.unit;
  form.tags.value = course.tags.join(t("course.edit.comma"));
  form.language.value = ["zh", "en"].includes(course.language) ? course.language : "";
  form.description.value = course.description;
  form.chapters.value = course.chapters.map((one) => `${clock(one.start_s)} ${one.title}`).join("\n");
  setText(byId("edit-said"), "");
  for (const one of [form.title, form.chapters]) one.removeAttribute("aria-invalid");
}

byId("edit-open").addEventListener("click", async () => {
  if (signedIn) {
    const session = await call("/api/session");
    if (session.status === 401) {
      location.assign(`/centre/signin?next=${encodeURIComponent(location.pathname)}`);
      return;
    }
    if (session.body) keep(session.body);
    const { body } = await call(SIGNED_IN);
    if (!body?.may_edit) {
      setText(byId("edit-why"), t("course.edit.not_yours"));
      return;
    }
    ({ uses } = body);
  }
  setText(byId("edit-why"), "");
  fill();
  dialog.showModal();
});

function chapters() {
  const found = [];
  for (const [index, line] of form.chapters.value.replaceAll("：", ":").split("\n").entries()) {
    if (!line.trim()) continue;
    const parts = CHAPTER.exec(line);
    if (!parts) throw new RangeError(t("course.edit.bad_chapter", { n: index + 1 }));
    const [, hours, minutes, seconds, title] = parts;
    const startS = Number(hours ?? 0) * 3600 + Number(minutes) * 60 + Number(seconds);
    if (startS > course.duration_s) throw new RangeError(t("course.edit.late_chapter", { n: index + 1 }));
    // What a file brought to the millisecond stays where nobody has moved it.
    const known = course.chapters.find((one) => Math.floor(one.start_s) === startS && one.title === title.trim());
    found.push({ start_s: known?.start_s ?? startS, title: title.trim() });
  }
  return found;
}

/** What is another than before; the rest stays as it is. */
function changes() {
  const now = {
    title: form.title.value.trim(),
    teacher: form.teacher.value.trim(),
    unit: form.unit.value.trim(),
    tags: form.tags.value.split(/[,，、;；]/).map((one) => one.trim()).filter(Boolean),
    description: form.description.value.trim(),
    chapters: chapters(),
  };
  const shown = ["zh", "en"].includes(course.language) ? course.language : "";
  if (form.language.value !== shown) now.language = form.language.value;
  return Object.fromEntries(Object.entries(now).filter(
    ([name, value]) => JSON.stringify(value) !== JSON.stringify(course[name]),
  ));
}

function refuse(field, words) {
  field.setAttribute("aria-invalid", "true");
  setText(byId("edit-said"), words);
  field.focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const one of [form.title, form.chapters]) one.removeAttribute("aria-invalid");
  if (!form.title.value.trim()) {
    refuse(form.title, t("course.edit.no_title"));
    return;
  }
  let said;
  try {
    said = changes();
  } catch (error) {
    refuse(form.chapters, error.message);
    return;
  }
  if (Object.keys(said).length) {
    setText(byId("edit-said"), t("course.edit.saving"));
    const answer = await ask("PATCH", "", { revision: course.revision, ...said });
    if (answer.status !== 200) {
      setText(byId("edit-said"), trouble(answer));
      return;
    }
  }
  dialog.close();
  done();
});
byId("edit-cancel").addEventListener("click", () => dialog.close());

// ---------------------------------------------------------------- removing

function moment(text) {
  return new Date(text).toLocaleString(document.documentElement.lang, {
    dateStyle: "medium", timeStyle: "short",
  });
}

byId("remove-open").addEventListener("click", () => {
  byId("remove-used").hidden = uses.length === 0;
  byId("remove-unused").hidden = uses.length > 0;
  byId("remove-uses").replaceChildren(...uses.slice(0, MOST_SHOWN).map((one) => {
    const item = document.createElement("li");
    item.textContent = [moment(one.starts_at), one.title, one.where].filter(Boolean).join(" · ");
    return item;
  }));
  const more = uses.length - MOST_SHOWN;
  byId("remove-more").hidden = more <= 0;
  if (more > 0) setText(byId("remove-more"), t("course.remove.more", { n: more }));
  setText(byId("remove-said"), "");
  sure.showModal();
  byId("remove-no").focus();
});
byId("remove-no").addEventListener("click", () => sure.close());
byId("remove-yes").addEventListener("click", async () => {
  // What was shown may go; what was planned since is told first.
  const answer = await ask("DELETE", uses.length ? "?anyway=1" : "");
  if (answer.status === 204) {
    location.assign("/courses");
    return;
  }
  if (answer.status === 409 && answer.body?.uses) {
    ({ uses } = answer.body);
    byId("remove-open").click();
    return;
  }
  const words = answer.status === 409
    ? t("common.says", { sentence: answer.sentence }) : trouble(answer);
  setText(byId("remove-said"), words);
});
