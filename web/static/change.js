/** Changing something and saying what came of it: the page's note `said`, the frame's dialog `sure`. */

import { ask, refusal } from "./centre.js";
import { byId, setText } from "./page.js";

/** Say something above the page; "" takes it away. tone: "good" or "bad". */
export function say(words, tone = "good") {
  byId("said").hidden = words === "";
  byId("said").dataset.tone = tone;
  setText(byId("said"), words);
  if (words) byId("said").scrollIntoView({ block: "nearest" });
}

/** Ask the API for a change; say `words` when it is done. The answer, null when it was refused. */
export async function change(path, how, words) {
  const answer = await ask(path, how);
  const isDone = answer.status >= 200 && answer.status < 300;
  say(isDone ? words : refusal(answer), isDone ? "good" : "bad");
  return isDone ? answer : null;
}

/**
 * Ask before something is done that cannot be undone.
 *
 * @param {string} question
 * @param {string} yes  what the button that does it says
 */
export function sure(question, yes) {
  const dialog = byId("sure");
  setText(byId("sure-question"), question);
  setText(byId("sure-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  byId("sure-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
