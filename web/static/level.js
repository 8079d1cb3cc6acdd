/** How loud it is, as a bar and in words, and the button that makes it silent. */

import { levelWord } from "./capture.js";
import { byId, number, setIcon, setText, t } from "./page.js";
import { have, setMuted, sound } from "./sources.js";

const EVERY_MS = 60;
const TEXT_EVERY_MS = 300;

let muted = false;
let textMs = 0;
let shownDb = -60;

function refresh() {
  const measured = muted && !have.screenSound ? null : sound.measure();
  // Up at once, down by 20 dB a second, so that a word can be read between two syllables.
  const fallenDb = shownDb - (20 * EVERY_MS) / 1000;
  shownDb = measured ? Math.max(measured.levelDb, fallenDb, -60) : -60;
  byId("meter-fill").style.transform = `scaleX(${(shownDb + 60) / 60})`;
  const now = performance.now();
  if (now - textMs < TEXT_EVERY_MS) return;
  textMs = now;
  const word = measured ? levelWord(shownDb, measured.peakDb) : "none";
  const text = muted && have.microphone ? t("present.level.muted")
    : !measured ? t(have.audio ? "present.level.none" : "present.level.off")
    : t(`present.level.${word}_value`, { level: number(shownDb) });
  byId("meter").dataset.word = word;
  byId("meter").setAttribute("aria-valuenow", String(Math.round(shownDb)));
  byId("meter").setAttribute("aria-valuetext", text);
  setText(byId("meter-text"), text);
}

byId("mic-mute").addEventListener("click", () => {
  muted = !muted;
  setMuted(muted);
  byId("mic-mute").setAttribute("aria-pressed", String(muted));
  const word = t(muted ? "present.mic.unmute" : "present.mic.mute");
  setText(byId("mic-mute").querySelector("span"), word);
  setIcon("mic-icon", muted ? "micoff" : "mic");
});

/** Begin to show the level. */
export function showLevel() {
  setInterval(refresh, EVERY_MS);
}
