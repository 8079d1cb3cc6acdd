/** What units below have handed in: approve it, or send it back with a reason. */

import { ask, format, me, problem, refusal } from "./centre.js";
import { html, icon } from "./drawing.js";
import { byId, setText, t } from "./page.js";

let items = [];

async function decide(one, verb, reason) {
  const body = verb === "refuse" ? { reason } : undefined;
  const answer = await ask(`/api/series/${one.id}/${verb}`, { method: "POST", body });
  if (answer.status !== 200) return problem(refusal(answer));
  problem("");
  setText(byId("said"), t(`centre.approvals.done.${verb}`, { title: one.plan.title }));
  byId("said").hidden = false;
  byId("said").focus();
  return look();
}

function card(one, unit) {
  const { plan } = one;
  // A wall clock of the plan's own zone, so it is written as it stands.
  const when = format("UTC", { weekday: "short", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit" });
  const link = html("a", "", plan.title);
  link.href = `/centre/series/${one.id}`;
  const yes = html("button", "primary", "", icon("ready"), html("span", "", t("centre.approvals.approve")));
  const no = html("button", "", t("centre.approvals.refuse"));
  const reason = html("input");
  Object.assign(reason, { type: "text", maxLength: 200, id: `reason-${one.id}` });
  const label = html("label", "", t("centre.approvals.reason"));
  label.htmlFor = reason.id;
  yes.type = "button";
  no.type = "button";
  yes.addEventListener("click", () => decide(one, "approve"));
  no.addEventListener("click", () => {
    if (reason.value.trim()) return decide(one, "refuse", reason.value.trim());
    reason.setAttribute("aria-invalid", "true");
    problem(t("centre.approvals.reason.missing"));
    return reason.focus();
  });
  return html("li", "card", "", html("h2", "", "", link),
    html("p", "says", `${unit} · ${t(`centre.all.kind.${plan.kind}`)} · ${when.format(new Date(`${plan.starts_local}Z`))} (${plan.time_zone})`),
    html("div", "field", "", label, reason), html("div", "next-doors", "", yes, no));
}

async function look() {
  items = [];
  const names = new Map();
  for (const path of me.may.approve ?? []) {
    const answer = await ask(`/api/approvals?unit_id=${Number(path.split("/").at(-2))}`);
    if (answer.status === 200) items.push(...answer.body.items);
    else problem(refusal(answer));
  }
  for (const id of new Set(items.map(({ plan }) => plan.unit_id))) {
    const { status, body } = await ask(`/api/units/${id}`);
    names.set(id, status === 200 ? body.name : "");
  }
  byId("list").replaceChildren(...items.map((one) => card(one, names.get(one.plan.unit_id))));
  byId("empty").hidden = items.length > 0;
}

window.terraceStats = () => ({ items });
look();
