/** Signing in; then on to the page that was asked for. */

import { asked, call } from "./centre-api.js";
import { byId, has, setText, t } from "./page.js";

/** Where to go: a page of the centre or of a room and nothing else, whatever the address says. */
function onward() {
  const next = new URLSearchParams(location.search).get("next") ?? "";
  const address = new URL(next || "/centre", location.origin);
  const isOurs = address.origin === location.origin && /^\/(centre|room)(\/|$)/.test(address.pathname);
  return isOurs ? address.pathname + address.search : "/centre";
}

function say(words) {
  byId("problem").textContent = words;
  byId("problem").hidden = words === "";
}

function inWords({ status, sentence }) {
  if (status === 401) return t("centre.signin.wrong");
  if (status === 429) return t("centre.signin.often");
  return status === 0 ? t("centre.all.silent") : t("centre.all.says", { sentence });
}

byId("signin").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [login, password] = [byId("login"), byId("password")];
  for (const input of [login, password]) input.setAttribute("aria-invalid", String(!input.value));
  const missing = [login, password].find((input) => !input.value);
  if (missing) {
    say(t("centre.signin.missing"));
    return missing.focus();
  }
  say("");
  byId("go").disabled = true;
  const answer = await call("/api/session", {
    method: "POST", body: { login: login.value.trim(), password: password.value },
  });
  byId("go").disabled = false;
  if (answer.status === 200) return location.assign(onward());
  say(inWords(answer));
  password.value = "";
  return password.focus();
});

/* Where somebody comes back from without having been let in. */
const back = new URLSearchParams(location.search).get("problem");
if (has(`centre.signin.back.${back}`)) say(t(`centre.signin.back.${back}`));

byId("login").focus();

const { status, body } = await call("/api/signin");
if (status === 200 && body.oidc) {
  byId("other").setAttribute("href", asked("/api/signin/oidc", { next: onward() }));
  setText(byId("other-word"), t("centre.signin.other", { host: body.oidc }));
  byId("or").hidden = false;
  byId("other").hidden = false;
}
