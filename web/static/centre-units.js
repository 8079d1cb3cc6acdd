/** The tree of units with their sites: looked through, added to, changed, moved; and CSV files in. */

import { all, ask, me, problem, refusal } from "./centre.js";
import { asked } from "./centre-api.js";
import { html } from "./drawing.js";
import { byId, number, setText, t, tn } from "./page.js";
import { idOf } from "./unitchooser.js";
import { tierWord } from "./unitpicker.js";

const TEXTS = ["name", "code", "tier", "zone"];

let unit = null;
let file = null;

const mayKeep = (action) => (me.may[action] ?? []).some((path) => unit?.path.startsWith(path));

function say(words, tone = "good") {
  byId("said").hidden = words === "";
  byId("said").dataset.tone = tone;
  setText(byId("said"), words);
}

/** Do something that changes the tree; say what came of it. Null if it was refused. */
async function change(path, how, words) {
  const answer = await ask(path, how);
  const isDone = answer.status >= 200 && answer.status < 300;
  say(isDone ? words : refusal(answer), isDone ? "good" : "bad");
  for (const input of document.querySelectorAll("main [aria-invalid]")) input.removeAttribute("aria-invalid");
  if (!isDone) byId({ time_zone: "zone", line_bps: "line", duty_minutes: "duty" }[answer.field] ?? answer.field)?.setAttribute("aria-invalid", "true");
  return isDone ? answer : null;
}

/* ---- the tree ---- */

function branch(one) {
  const pick = html("button", "quiet pick", "", html("span", "", one.name), html("small", "", tierWord(one.tier)));
  pick.type = "button";
  pick.dataset.unit = String(one.id);
  pick.addEventListener("click", () => show(one.id));
  const below = html("details", "branch");
  const list = html("ul", "branches");
  below.append(html("summary", "", "", html("span", "sr-only", t("centre.all.below", { name: one.name }))), list);
  below.addEventListener("toggle", async () => {
    if (!below.open || list.dataset.asked) return;
    list.dataset.asked = "true";
    const children = await all(`/api/units?parent_id=${one.id}`);
    list.replaceChildren(...(children.length ? children.map(branch) : [html("li", "hint", t("centre.all.nobelow"))]));
    mark();
  });
  return html("li", "unit", "", pick, below);
}

function mark() {
  for (const pick of byId("tree").querySelectorAll(".pick")) pick.setAttribute("aria-current", String(Number(pick.dataset.unit) === unit?.id));
}

/** Draw the tree anew, open down to the unit that is shown. */
async function drawTree() {
  const words = byId("search").value.trim();
  const tops = await all(words ? `/api/units?search=${encodeURIComponent(words)}` : "/api/units", 200);
  byId("tree").replaceChildren(...tops.map(branch));
  const opened = words ? [] : (unit?.path ?? tops[0]?.path ?? "").split("/").filter(Boolean);
  for (const id of opened) {
    const details = byId("tree").querySelector(`[data-unit="${id}"]`)?.nextElementSibling;
    if (!details) continue;
    const list = details.lastElementChild;
    list.dataset.asked = "true";
    list.replaceChildren(...(await all(`/api/units?parent_id=${id}`)).map(branch));
    details.open = true;
  }
  mark();
}

/* ---- one unit ---- */

async function show(id) {
  const { status, body, sentence } = await ask(`/api/units/${id}`);
  if (status !== 200) return problem(refusal({ status, sentence }));
  unit = body;
  if (![...byId("tier").options].some((one) => one.value === unit.tier)) byId("tier").append(new Option(unit.tier, unit.tier));
  for (const field of TEXTS) byId(field).value = field === "zone" ? unit.time_zone : unit[field];
  byId("line").value = unit.line_bps === null ? "" : String(unit.line_bps / 1e6);
  byId("duty").value = unit.duty_minutes === null ? "" : String(unit.duty_minutes / 60);
  byId("approval").checked = unit.asks_approval;
  setText(byId("shown"), unit.name);
  for (const one of byId("unit-form").elements) one.disabled = !mayKeep("keep units");
  byId("below").hidden = !mayKeep("keep units");
  for (const kind of ["site", "station"]) byId(`${kind}s`).setAttribute("href", asked("/centre/places", { unit: unit.id, kind }));
  byId("export").setAttribute("href", `/api/roster/${byId("kind").value}?unit_id=${unit.id}`);
  byId("one").hidden = false;
  mark();
  return undefined;
}

const figure = (id, factor) => (byId(id).value === "" ? null : Math.round(Number(byId(id).value) * factor));

function fields() {
  return {
    name: byId("name").value.trim(), code: byId("code").value.trim(), tier: byId("tier").value.trim(),
    time_zone: byId("zone").value.trim(), line_bps: figure("line", 1e6), duty_minutes: figure("duty", 60),
    asks_approval: byId("approval").checked,
  };
}

byId("unit-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const done = await change(`/api/units/${unit.id}`, { method: "PATCH", body: fields() }, t("centre.units.saved"));
  if (!done) return;
  await show(unit.id);
  drawTree();
});
byId("add-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { parent_id: unit.id, name: byId("add-name").value.trim(), code: byId("add-code").value.trim(), tier: byId("add-tier").value.trim(), time_zone: unit.time_zone };
  const done = await change("/api/units", { method: "POST", body }, t("centre.units.added", { name: body.name }));
  if (!done) return;
  byId("add-form").reset();
  drawTree();
});
byId("move-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const code = byId("move-to").value.trim();
  const found = (await all(`/api/units?search=${encodeURIComponent(code)}`, 200)).find((one) => one.code === code);
  if (!found) return say(t("centre.units.nocode", { code }), "bad");
  if (!(await change(`/api/units/${unit.id}/move`, { method: "POST", body: { parent_id: found.id } }, t("centre.units.moved", { name: found.name })))) return undefined;
  await show(unit.id);
  return drawTree();
});
byId("remove").addEventListener("click", async () => {
  const above = unit.parent_id;
  if (!(await change(`/api/units/${unit.id}`, { method: "DELETE" }, t("centre.units.removed")))) return;
  if (above) await show(above);
  drawTree();
});
/* ---- CSV files ---- */

async function send(isTrial) {
  if (!file) return byId("file").focus();
  const answer = await ask(`/api/roster/${byId("kind").value}?dry_run=${isTrial ? 1 : 0}`, { method: "POST", csv: file });
  const said = answer.body;
  const bad = said?.bad ?? [];
  const isGood = answer.status === 200 && bad.length === 0;
  byId("apply").hidden = !(isGood && isTrial);
  byId("outcome").hidden = false;
  byId("outcome").dataset.tone = isGood ? "good" : "bad";
  setText(byId("outcome"), answer.status !== 200 ? refusal(answer)
    : bad.length ? tn("centre.units.csv.bad", said.bad_lines)
      : t(isTrial ? "centre.units.csv.good" : "centre.units.csv.done", { added: number(said.added), changed: number(said.changed) }));
  byId("bad-lines").hidden = bad.length === 0;
  byId("bad").replaceChildren(...[...bad].sort((one, other) => one.line - other.line).map((one) => {
    const line = html("th", "", number(one.line));
    line.scope = "row";
    return html("tr", "", "", line, html("td", "words", one.column), html("td", "words", one.reason));
  }));
  if (isGood && !isTrial) drawTree();
  return undefined;
}

byId("kind").addEventListener("change", () => {
  byId("apply").hidden = true;
  if (unit) byId("export").setAttribute("href", `/api/roster/${byId("kind").value}?unit_id=${unit.id}`);
});
byId("file").addEventListener("change", () => {
  [file] = byId("file").files;
  byId("apply").hidden = true;
});
byId("try").addEventListener("click", () => send(true));
byId("apply").addEventListener("click", () => send(false));

let timer = 0;
byId("search").addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(drawTree, 300);
});

window.terraceStats = () => ({ unit });
const tops = me.may.see ?? [];
if (tops.length) {
  const own = tops.some((path) => idOf(path) === me.person.unit_id) ? me.person.unit_id : idOf(tops[0]);
  await show(own);
  await drawTree();
} else problem(t("centre.units.none"));
