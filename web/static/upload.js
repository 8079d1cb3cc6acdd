/** The upload page: sends a file in parts, goes on after a break, and shows what becomes of it. */

import { byId, number, setText, t, tokenForm } from "./page.js";
import { bearer, clock, fetchJson } from "./course-data.js";

const PART_BYTES = 8 * 1024 * 1024;
const TRY_AGAIN_MS = 3000;
const POLL_EVERY_MS = 2000;
const KEY = "terrace.uploads";

const form = byId("form");
const showToken = tokenForm(() => poll());
let running = null; // {file, location, offset, controller, stopped}
let most = 0;

function megabytes(bytes) {
  return bytes >= 1e9 ? `${number(bytes / 1e9, 1)} GB` : `${number(bytes / 1e6, 1)} MB`;
}

function say(words) {
  setText(byId("said"), words);
}

// ---------------------------------------------------------------- what was begun

/** The same file chosen again is known by its name, size and date. */
function mark(file) {
  return `${file.name}\n${file.size}\n${file.lastModified}`;
}

function begun() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

function remember(file, location) {
  const all = begun();
  if (location) all[mark(file)] = location;
  else delete all[mark(file)];
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // Without storage an upload goes on as long as the page stays open.
  }
}

// ---------------------------------------------------------------- sending

class Refused extends Error {}

async function request(method, path, headers, body, signal) {
  const answer = await fetch(path, {
    method, headers: { ...bearer(), "Tus-Resumable": "1.0.0", ...headers }, body, signal,
  });
  showToken(answer.status === 401 || answer.status === 403);
  if (answer.ok) return answer;
  const sentence = (await answer.text()).trim();
  const error = new Refused(sentence || String(answer.status));
  error.status = answer.status;
  throw error;
}

async function create(file) {
  const told = {
    filename: file.name,
    title: form.title.value.trim(),
    teacher: form.teacher.value.trim(),
    unit: form.unit.value.trim(),
    tags: form.tags.value.split(/[,，、;；]/).map((one) => one.trim()).filter(Boolean).join("\n"),
    language: form.language.value,
    description: form.description.value.trim(),
    chapters: form.chapters.value.replaceAll("：", ":"),
  };
  const [subtitles] = form.subtitles.files;
  if (subtitles) told.subtitles = decode(await subtitles.arrayBuffer());
  const answer = await request(
    "POST", "/api/uploads",
    { "Upload-Length": String(file.size), "Content-Type": "application/json" },
    JSON.stringify(told),
  );
  const location = answer.headers.get("Location");
  remember(file, location);
  return location;
}

/** Text in UTF-8, or in the encoding of Chinese Windows. */
function decode(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("gb18030").decode(bytes);
  }
}

/** One part, with its progress: fetch does not tell how much has gone out. */
function sendPart(job, end) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    job.call = call;
    call.open("PATCH", job.location);
    for (const [name, value] of Object.entries(bearer())) call.setRequestHeader(name, value);
    call.setRequestHeader("Tus-Resumable", "1.0.0");
    call.setRequestHeader("Upload-Offset", String(job.offset));
    call.setRequestHeader("Content-Type", "application/offset+octet-stream");
    call.upload.addEventListener("progress", ({ loaded }) => show(job, job.offset + loaded));
    call.addEventListener("load", () => {
      if (call.status === 204) {
        resolve(Number(call.getResponseHeader("Upload-Offset")));
        return;
      }
      const error = new Refused(call.responseText.trim() || String(call.status));
      error.status = call.status;
      reject(error);
    });
    for (const name of ["error", "abort", "timeout"]) {
      call.addEventListener(name, () => reject(new TypeError(name)));
    }
    call.send(job.file.slice(job.offset, end));
  });
}

function show(job, at) {
  byId("bar").hidden = false;
  byId("bar").value = at / job.file.size;
  const now = performance.now();
  job.marks.push([now, at]);
  while (job.marks.length > 2 && now - job.marks[0][0] > 8000) job.marks.shift();
  const [then, before] = job.marks[0];
  const rate = now - then > 300 ? ((at - before) / (now - then)) * 1000 : 0;
  say(t("upload.sending", {
    done: megabytes(at), size: megabytes(job.file.size),
    rate: rate ? `${megabytes(rate)}/s` : "–",
    left: rate ? clock((job.file.size - at) / rate) : "–",
  }));
}

function percent(job) {
  return number(Math.floor((job.offset / job.file.size) * 100));
}

/** Send until the whole file is there, it is paused, or the node refuses it for good. */
async function run(job) {
  while (!job.stopped) {
    try {
      job.location ??= await create(job.file);
      const where = await request("HEAD", job.location, {});
      job.offset = Number(where.headers.get("Upload-Offset"));
      while (job.offset < job.file.size && !job.stopped) {
        job.offset = await sendPart(job, Math.min(job.file.size, job.offset + PART_BYTES));
      }
      if (job.offset >= job.file.size) {
        remember(job.file, null);
        finish(job, t("upload.ready"));
        form.reset();
        poll();
        return;
      }
    } catch (error) {
      if (job.stopped) break;
      if (error.status === 404 && job.location) {
        // It was removed there, or is a course already: begin anew.
        remember(job.file, null);
        job.location = null;
        continue;
      }
      if (error instanceof Refused && error.status !== 409 && error.status < 500) {
        finish(job, t("common.says", { sentence: error.message }));
        return;
      }
      const words = error.status === 507 ? t("common.says", { sentence: error.message }) : "";
      say(words || t("upload.waiting", { percent: percent(job) }));
      await new Promise((resolve) => { setTimeout(resolve, TRY_AGAIN_MS); });
    }
  }
}

function buttons() {
  setText(byId("start-words"), t(
    !running ? "upload.start" : running.stopped ? "upload.go_on" : "upload.pause",
  ));
  byId("cancel").hidden = !running;
  for (const one of form.querySelectorAll("input, select, textarea")) one.disabled = Boolean(running);
}

function finish(job, words) {
  job.stopped = true;
  running = null;
  byId("bar").hidden = true;
  say(words);
  buttons();
}

function problem() {
  if (!form.file.files.length) return [form.file, t("upload.no_file")];
  if (!form.title.value.trim()) return [form.title, t("upload.no_title")];
  const lines = form.chapters.value.replaceAll("：", ":").split("\n");
  const bad = lines.findIndex((one) => one.trim() && !/^\s*(\d{1,2}:)?\d{1,3}:\d{1,2}\s+\S/.test(one));
  if (bad >= 0) return [form.chapters, t("upload.bad_chapter", { n: bad + 1 })];
  return null;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running && !running.stopped) {
    running.stopped = true;
    running.call?.abort();
    say(t("upload.paused", { percent: percent(running) }));
    buttons();
    return;
  }
  if (!running) {
    const found = problem();
    for (const one of [form.file, form.title, form.chapters]) one.removeAttribute("aria-invalid");
    if (found) {
      found[0].setAttribute("aria-invalid", "true");
      say(found[1]);
      found[0].focus();
      return;
    }
    const [file] = form.file.files;
    running = { file, location: begun()[mark(file)] ?? null, offset: 0, marks: [] };
  }
  running.stopped = false;
  running.marks = [];
  buttons();
  run(running);
});

byId("cancel").addEventListener("click", async () => {
  const job = running;
  if (!job) return;
  job.stopped = true;
  job.call?.abort();
  remember(job.file, null);
  finish(job, "");
  if (job.location) {
    try {
      await request("DELETE", job.location, {});
    } catch {
      // The node forgets it by itself in a week.
    }
  }
});

form.file.addEventListener("change", () => {
  const [file] = form.file.files;
  if (file && !form.title.value.trim()) {
    form.title.value = file.name.replace(/\.[^.]*$/, "").replaceAll("_", " ");
  }
});

const drop = byId("drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.toggleAttribute("data-over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length && !running) {
      form.file.files = event.dataTransfer.files;
      form.file.dispatchEvent(new Event("change"));
    }
  });
}

addEventListener("beforeunload", (event) => {
  if (running && !running.stopped) event.preventDefault();
});

// ---------------------------------------------------------------- what is being made

function jobCard(job) {
  const card = document.createElement("li");
  card.className = "card";
  card.dataset.state = job.state;
  const title = document.createElement("strong");
  title.textContent = job.title;
  const words = document.createElement("p");
  words.className = "words";
  words.textContent = t(`upload.job.${job.state}`, {
    percent: number(Math.floor(job.done * 100)), sentence: job.sentence,
  });
  card.append(title, words);
  if (job.state === "working") {
    const bar = document.createElement("progress");
    bar.max = 1;
    bar.value = job.done;
    bar.setAttribute("aria-label", job.title);
    card.append(bar);
  }
  if (job.state === "failed") {
    const away = document.createElement("button");
    away.type = "button";
    away.textContent = t("upload.job.remove");
    away.addEventListener("click", async () => {
      away.disabled = true;
      try {
        await request("DELETE", `/api/courses/${job.id}`, {});
      } catch (error) {
        words.textContent = t("common.says", { sentence: error.message });
      }
      poll();
    });
    card.append(away);
  }
  if (job.playable) {
    const link = document.createElement("a");
    link.href = `/courses/${job.id}`;
    link.textContent = t("upload.job.watch");
    card.append(link);
  }
  return card;
}

async function poll() {
  if (document.hidden) return;
  const { status, value, sentence } = await fetchJson("/api/library");
  showToken(status === 401 || status === 403);
  const known = value !== null;
  if (status === 404) {
    form.hidden = true;
    setText(byId("jobs-note"), t("upload.only_library"));
  } else if (!known) {
    setText(byId("jobs-note"), sentence ? t("common.says", { sentence }) : t("upload.silent"));
  } else {
    if (most !== value.max_upload_bytes) {
      most = value.max_upload_bytes;
      setText(byId("file-hint"), t("upload.file.hint", { size: megabytes(most) }));
    }
    setText(byId("jobs-note"), t("upload.jobs.none"));
    byId("jobs").replaceChildren(...value.jobs.map(jobCard));
  }
  byId("jobs-note").hidden = known && value.jobs.length > 0;
}

document.addEventListener("visibilitychange", poll);
setInterval(poll, POLL_EVERY_MS);
poll();
window.terrace = Object.freeze({ page: "upload" });
