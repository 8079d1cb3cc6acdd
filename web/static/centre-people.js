/** The people of a unit, their roles and their passwords. */

import { all, ask, me, problem, refusal } from "./centre.js";
import { html } from "./drawing.js";
import { byId, setText, t } from "./page.js";
import { UnitChooser } from "./unitchooser.js";

let unit = null;
let person = null;

function say(words, tone = "good") {
  byId("said").hidden = words === "";
  byId("said").dataset.tone = tone;
  setText(byId("said"), words);
}

async function change(path, how, words) {
  const answer = await ask(path, how);
  const isDone = answer.status >= 200 && answer.status < 300;
  say(isDone ? words : refusal(answer), isDone ? "good" : "bad");
  return isDone ? answer : null;
}

async function drawList() {
  const people = await all(`/api/people?unit_id=${unit.id}`, 1000);
  byId("empty").hidden = people.length > 0;
  byId("list").replaceChildren(...people.map((one) => {
    const pick = html("button", "quiet pick", "", html("span", "", one.name),
      html("small", "", one.active ? one.login : `${one.login} · ${t("centre.people.inactive")}`));
    pick.type = "button";
    pick.setAttribute("aria-current", String(one.id === person?.id));
    pick.addEventListener("click", () => show(one.id));
    return html("li", "", "", pick);
  }));
}

function drawRoles(roles) {
  byId("roles").replaceChildren(...roles.map((one) => {
    const words = t(`centre.people.role.${one.role}`);
    const take = html("button", "quiet danger", t("centre.people.take"));
    take.type = "button";
    take.setAttribute("aria-label", t("centre.people.take.role", { role: words, unit: one.unit_name }));
    take.addEventListener("click", async () => {
      const answer = await change(`/api/people/${person.id}/roles`, { method: "DELETE", body: { unit_id: one.unit_id, role: one.role } }, t("centre.people.taken"));
      if (answer) drawRoles(answer.body.roles);
    });
    return html("li", "row-line", "", html("span", "", "", html("strong", "", words), html("small", "", ` ${one.unit_name}`)), take);
  }));
  byId("no-roles").hidden = roles.length > 0;
}

async function show(id) {
  const answer = await ask(`/api/people/${id}`);
  if (answer.status !== 200) return say(refusal(answer), "bad");
  ({ person } = answer.body);
  for (const field of ["name", "login", "email", "phone", "language"]) byId(field).value = person[field];
  byId("active").checked = person.active;
  setText(byId("shown"), person.name);
  drawRoles(answer.body.roles);
  byId("password-card").hidden = person.id === me.person.id;
  byId("one").hidden = false;
  return drawList();
}

byId("person-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { active: byId("active").checked };
  for (const field of ["name", "login", "email", "phone", "language"]) body[field] = byId(field).value.trim();
  if (await change(`/api/people/${person.id}`, { method: "PATCH", body }, t("centre.people.saved"))) show(person.id);
});
byId("add-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = { unit_id: unit.id, name: byId("add-name").value.trim(), login: byId("add-login").value.trim(), language: document.documentElement.lang.slice(0, 2) };
  const answer = await change("/api/people", { method: "POST", body }, t("centre.people.added", { name: body.name }));
  if (!answer) return;
  byId("add-form").reset();
  show(answer.body.id);
});
byId("role-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await change(`/api/people/${person.id}/roles`, { method: "PUT", body: { unit_id: unit.id, role: byId("role").value } }, t("centre.people.given"));
  if (answer) drawRoles(answer.body.roles);
});
byId("password-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const done = await change(`/api/people/${person.id}/password`, { method: "POST", body: { password: byId("password").value } }, t("centre.people.password.set"));
  if (done) byId("password-form").reset();
});

const chooser = new UnitChooser(byId("unit"), "keep people", (one) => {
  unit = one;
  setText(byId("role-unit"), t("centre.people.role.for", { name: unit.name }));
  drawList();
});
window.terraceStats = () => ({ unit, person });
if (!(await chooser.go(0))) problem(t("centre.people.none"));
