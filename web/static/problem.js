/** The presenter's problems, in words: what is wrong, and what to do next. */

import { CaptureError } from "./capture.js";
import { byId, setText, stream, t, tokenForm } from "./page.js";

let newToken = () => {};
const showTokenForm = tokenForm(() => {
  problem("");
  newToken();
});

/** Call `then` whenever there is a new token. */
export function onNewToken(then) {
  newToken = then;
}

/**
 * Say what is wrong and what to do next; "" takes it away.
 *
 * @param {string} kind  a `present.problem.<kind>.*` key
 * @param {string} says  the node's own sentence
 * @param {string} address  where media goes, for words about firewalls
 */
export function problem(kind, says = "", address = "") {
  const box = byId("problem");
  box.hidden = kind === "";
  showTokenForm(kind === "refused" || kind === "forbidden");
  if (kind === "") return;
  box.dataset.kind = kind;
  const values = { stream, address: address || location.host };
  setText(byId("problem-title"), t(`present.problem.${kind}.title`, values));
  setText(byId("problem-help"), t(`present.problem.${kind}.help`, values));
  byId("problem-says").hidden = says === "";
  setText(byId("problem-says"), says && t("common.says", { sentence: says }));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  box.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
}

// Each is taken away by what mends it: these by a device, all others by a line to the node.
const OF_DEVICES = /^(denied|missing|busy|failed|gone|screen|nothing)\b/;

/** The kind that is shown now, "" if none is. */
export function shownProblem() {
  return byId("problem").hidden ? "" : byId("problem").dataset.kind;
}

/** The devices work again. */
export function devicesMended() {
  if (OF_DEVICES.test(shownProblem())) problem("");
}

/** The line to the node works again. */
export function lineMended() {
  if (!OF_DEVICES.test(shownProblem())) problem("");
}

/** Say why a device could not be had. */
export function captureProblem(error) {
  if (!(error instanceof CaptureError)) throw error;
  problem(error.kind);
}

byId("problem-close").addEventListener("click", () => problem(""));
