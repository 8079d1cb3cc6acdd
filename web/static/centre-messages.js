/** Messages that failed, or of which nobody knows whether they arrived: a person decides. */

import { ask, format, hereZone, problem, refusal } from "./centre.js";
import { change, sure } from "./change.js";
import { chip, html } from "./drawing.js";
import { byId, has, t } from "./page.js";

const MOST = 500;
const when = format(hereZone, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
let messages = [];

const channel = (name) => (has(`centre.messages.by.${name}`) ? t(`centre.messages.by.${name}`) : name);

function row(one) {
  const named = (words) => {
    const button = html("button", "", words);
    button.type = "button";
    button.setAttribute("aria-label", `${words}: ${one.recipient}, ${one.subject}`);
    return button;
  };
  const again = named(t("centre.messages.again"));
  const ignore = named(t("centre.messages.ignore"));
  again.addEventListener("click", async () => {
    // Whoever sends it again may send it twice, and should know.
    if (one.state === "unknown" && !(await sure(t("centre.messages.again.sure", { to: one.recipient }), t("centre.messages.again")))) return;
    if (await change(`/api/messages/${one.id}/send`, { method: "POST" }, t("centre.messages.again.done"))) look();
  });
  ignore.addEventListener("click", async () => {
    if (await change(`/api/messages/${one.id}/ignore`, { method: "POST" }, t("centre.messages.ignored"))) look();
  });
  const looks = one.state === "unknown" ? ["waiting", "warn"] : ["lost", "broken"];
  return html("li", "row-line", "",
    html("span", "row-what", "", html("strong", "row-title", one.subject),
      html("small", "", `${channel(one.channel)} · ${one.recipient} · ${when.format(new Date(one.try_at))}`),
      html("small", "why", one.error)),
    chip(...looks, t(`centre.messages.state.${one.state}`)),
    html("span", "row-acts", "", again, ignore));
}

async function look() {
  const answer = await ask(`/api/messages?limit=${MOST}`);
  problem(answer.status === 200 ? "" : refusal(answer));
  if (answer.status !== 200) return;
  messages = answer.body.items;
  byId("list").replaceChildren(...messages.map(row));
  byId("empty").hidden = messages.length > 0;
}

window.terraceStats = () => ({ messages });
look();
