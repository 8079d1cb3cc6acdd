/** What the presenter shows and says: chosen in the form, captured, previewed, exchanged. */

import * as capture from "./capture.js";
import { byId, number, setText, t } from "./page.js";
import { captureProblem, devicesMended, problem } from "./problem.js";

export const sound = new capture.Sound();

/** What is captured now; `audio` is what to send of the microphone and the screen's sound. */
export const have = {
  camera: null, screen: null, screenSound: null, microphone: null, audio: null,
};

let muted = false;
let choiceBefore = "camera";
let tell = async () => {};

/** Call `changed(kind, track)` whenever there is another picture or sound to send. */
export function onTrack(changed) {
  tell = changed;
}

const pictureChoice = () => byId("sources").elements.picture.value;

/** The picture to send, null for none. */
export const picture = () => (pictureChoice() === "screen" ? have.screen : have.camera);

/** The chosen size, see capture.SIZES. */
export const size = () => capture.SIZES[byId("size").value];

/** Whether the microphone is to be silent; it stays open, so that it is back at once. */
export function setMuted(silent) {
  muted = silent;
  if (have.microphone) have.microphone.enabled = !silent;
}

/** Fill the two lists with what is plugged in now. */
export async function listDevices() {
  const { cameras, microphones } = await capture.devices();
  fillSelect(byId("camera"), cameras, "present.camera.one", "present.camera.missing", false);
  fillSelect(
    byId("microphone"), microphones, "present.microphone.one", "present.microphone.missing", true,
  );
  return { cameras, microphones };
}

function fillSelect(select, list, nameKey, missingKey, mayBeNone) {
  const chosen = select.value;
  const options = list.map(({ deviceId, label }, index) => {
    return new Option(label || t(nameKey, { n: number(index + 1) }), deviceId);
  });
  if (list.length === 0) options.push(new Option(t(missingKey), "none"));
  else if (mayBeNone) options.push(new Option(t("present.microphone.none"), "none"));
  select.replaceChildren(...options);
  select.disabled = list.length === 0;
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

function release(name) {
  have[name]?.stop();
  have[name] = null;
}

/** Take the camera that is chosen. */
async function takeCamera() {
  release("camera"); // first: a phone opens one camera at a time
  try {
    have.camera = await capture.camera(byId("camera").value, byId("size").value);
    have.camera.addEventListener("ended", () => gone("camera"));
  } finally {
    await pictureChanged();
  }
}

async function takeMicrophone() {
  release("microphone");
  try {
    if (byId("microphone").value !== "none") {
      have.microphone = await capture.microphone(byId("microphone").value);
      have.microphone.enabled = !muted;
      have.microphone.addEventListener("ended", () => gone("microphone"));
    }
  } finally {
    await soundChanged();
  }
}

/** Ask for the screen; if the person says no, things stay as they were. */
async function takeScreen() {
  const taken = await capture.screen(byId("size").value);
  release("screen");
  release("screenSound");
  have.screen = taken.video;
  have.screenSound = taken.audio;
  have.screen.addEventListener("ended", () => gone("screen"));
  await pictureChanged();
  await soundChanged();
}

async function gone(name) {
  have[name] = null;
  if (name === "screen") {
    release("screenSound");
    problem("screen.ended");
  } else {
    problem(`gone.${name}`);
    await listDevices();
  }
  await pictureChanged();
  await soundChanged();
}

async function pictureChanged() {
  const track = picture();
  byId("preview").srcObject = track ? new MediaStream([track]) : null;
  byId("preview-box").dataset.picture = track ? pictureChoice() : "none";
  byId("preview-empty").hidden = track !== null;
  const words = pictureChoice() === "none" ? "present.preview.none"
    : pictureChoice() === "screen" ? "present.preview.screen" : "present.preview.off";
  setText(byId("preview-text"), t(words));
  byId("turn-on").hidden = pictureChoice() !== "camera";
  byId("camera-field").hidden = pictureChoice() !== "camera";
  byId("screen-field").hidden = pictureChoice() !== "screen";
  await tell("video", track);
}

async function soundChanged() {
  have.audio = sound.use(have.microphone, have.screenSound);
  byId("mic-mute").disabled = have.microphone === null;
  await tell("audio", have.audio);
}

/** Take whatever is chosen and not yet there. True if there is something to send. */
export async function takeAll() {
  const { cameras, microphones } = await listDevices();
  const jobs = [];
  if (pictureChoice() === "camera" && !have.camera) {
    jobs.push(cameras.length ? takeCamera : missing("camera"));
  }
  if (pictureChoice() === "screen" && !have.screen) jobs.push(takeScreen);
  if (!have.microphone && byId("microphone").value !== "none") {
    jobs.push(takeMicrophone);
  } else if (microphones.length === 0) {
    jobs.push(missing("microphone"));
  }
  for (const job of jobs) {
    try {
      await job();
    } catch (error) {
      captureProblem(error);
    }
  }
  await listDevices(); // now with their names
  return picture() !== null || have.audio !== null;
}

function missing(device) {
  return async () => {
    throw new capture.CaptureError(`missing.${device}`);
  };
}

let queue = Promise.resolve();

/**
 * Run something that may fail for want of a device, and say so. One at a time: two hands on the
 * same camera would leave one of its tracks running for nobody.
 */
export function attempt(action) {
  sound.wake();
  queue = queue.then(async () => {
    devicesMended();
    try {
      await action();
    } catch (error) {
      captureProblem(error);
    }
  });
  return queue;
}

/** Bring the camera to the chosen size. */
export async function resizeCamera() {
  const { width, height } = size();
  await have.camera?.applyConstraints({ width: { ideal: width }, height: { ideal: height } });
}

byId("turn-on").addEventListener("click", () => attempt(takeAll));
byId("camera").addEventListener("change", () => attempt(takeCamera));
byId("microphone").addEventListener("change", () => attempt(takeMicrophone));
byId("screen-again").addEventListener("click", () => attempt(takeScreen));
byId("sources").addEventListener("submit", (event) => event.preventDefault());

byId("sources").addEventListener("change", (event) => {
  if (event.target.name !== "picture") return;
  const choice = event.target.value;
  attempt(async () => {
    if (choice === "screen") {
      try {
        await takeScreen();
      } catch (error) {
        // Nothing was shared: what was shown before goes on.
        byId("sources").elements.picture.value = choiceBefore;
        throw error;
      }
    }
    choiceBefore = choice;
    if (choice !== "screen") {
      release("screen");
      release("screenSound");
    }
    if (choice !== "camera") release("camera"); // its lamp goes out, as people expect
    await pictureChanged();
    await soundChanged();
    if (choice === "camera") await takeCamera();
  });
});
