/** One's own account: who one is here, and another password. */

import { ask, me, refusal } from "./centre.js";
import { keep } from "./centre-api.js";
import { say } from "./change.js";
import { byId, fillList, setText, t } from "./page.js";
import { idOf } from "./unitchooser.js";

const LEAST = 10;
const MOST_ROLES = 20;

async function draw() {
  const { person, roles } = me;
  setText(byId("name"), person.name);
  const rows = [
    [t("centre.account.login"), person.login],
    [t("centre.account.email"), person.email || "–"],
    [t("centre.account.phone"), person.phone || "–"],
  ];
  const shown = await Promise.all(roles.slice(0, MOST_ROLES).map(async ({ role, path }) => {
    const { status, body } = await ask(`/api/units/${idOf(path)}`);
    return t("centre.account.role.of", { role: t(`centre.account.role.${role}`), unit: status === 200 ? body.name : path });
  }));
  rows.push([t("centre.account.roles"), shown.join(", ") || t("centre.account.roles.none")]);
  fillList(byId("facts"), rows);
}

/** Say what is wrong with a field, and go there. */
function wrong(id, words) {
  byId(id).setAttribute("aria-invalid", "true");
  byId(id).focus();
  say(words, "bad");
}

byId("password-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  for (const id of ["old", "new", "again"]) byId(id).removeAttribute("aria-invalid");
  if (!byId("old").value) return wrong("old", t("centre.account.missing"));
  if (byId("new").value.length < LEAST) return wrong("new", t("centre.account.short"));
  if (byId("new").value !== byId("again").value) return wrong("again", t("centre.account.differ"));
  const answer = await ask("/api/me/password", { method: "POST", body: { old: byId("old").value, new: byId("new").value } });
  if (answer.status === 200) {
    // The session is another one now, and so is its token.
    keep(answer.body);
    byId("password-form").reset();
    return say(t("centre.account.changed"));
  }
  if (answer.field === "old") return wrong("old", t("centre.account.wrong"));
  return say(answer.status === 429 ? t("centre.account.often") : refusal(answer), "bad");
});

window.terraceStats = () => ({ person: me.person });
draw();
