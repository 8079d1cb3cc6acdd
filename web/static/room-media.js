/** Pictures and sounds of a room: its programme, the sites on stage, and who is heard beside. */

import { LivePicture } from "./classline.js";
import { html } from "./drawing.js";
import { token } from "./page.js";

const whep = (stream) => `/whep/${encodeURIComponent(stream)}`;

/** A picture with its own element: shown in `frame`, which has a video and perhaps a canvas. */
export class Picture {
  #live;
  #frame;
  #stream = "";

  /**
   * @param {HTMLElement} frame  filled with a video and the canvas of its last picture
   * @param {{label?: string, isQuiet?: boolean, changed?: () => void}} how
   */
  constructor(frame, { label = "", isQuiet = false, changed = () => {} } = {}) {
    this.#frame = frame;
    const video = Object.assign(document.createElement("video"), { autoplay: true, playsInline: true });
    video.disablePictureInPicture = true;
    // A picture that is another's copy says nothing new to who cannot see it.
    if (label) video.setAttribute("aria-label", label);
    else video.setAttribute("aria-hidden", "true");
    const still = document.createElement("canvas");
    still.setAttribute("aria-hidden", "true");
    still.hidden = true;
    frame.prepend(video, still);
    this.video = video;
    this.#live = new LivePicture(video, still, () => {
      frame.dataset.picture = this.state;
      changed();
    }, { token });
    this.#live.isQuiet = isQuiet;
    frame.dataset.picture = "off";
  }

  get stream() {
    return this.#stream;
  }

  get state() {
    return this.#live.state;
  }

  /** Whether there is something to see or hear now. */
  get isThere() {
    return ["playing", "soundonly", "still"].includes(this.#live.state);
  }

  /** Whether only the sound gets through just now. */
  get stands() {
    return this.#live.stands();
  }

  get reason() {
    return this.#live.reason;
  }

  get framesDecoded() {
    return this.#live.framesDecoded;
  }

  get reconnects() {
    return this.#live.reconnects;
  }

  get soundIsBlocked() {
    return this.#live.soundIsBlocked;
  }

  get isQuiet() {
    return this.#live.isQuiet;
  }

  set isQuiet(quiet) {
    this.#live.isQuiet = quiet;
  }

  /** Show this stream; "" for none. */
  show(stream) {
    this.#stream = stream;
    if (stream) this.#live.play(whep(stream));
    else this.#live.stop();
  }

  hurry() {
    this.#live.hurry();
  }

  allowSound() {
    this.#live.allowSound();
  }

  close() {
    this.#live.stop();
    this.#frame.remove();
  }
}

/** The sounds that are played beside the programme's, each by a session of its own. */
export class Ears {
  #place;
  #open = new Map();

  /** @param {HTMLElement} place  where the audio elements stand, unseen */
  constructor(place) {
    this.#place = place;
  }

  /** Play exactly these streams. */
  hear(streams) {
    for (const [stream, { live, audio }] of this.#open) {
      if (streams.includes(stream)) continue;
      live.stop();
      audio.remove();
      this.#open.delete(stream);
    }
    for (const stream of streams) {
      if (this.#open.has(stream)) continue;
      const audio = document.createElement("audio");
      this.#place.append(audio);
      const live = new LivePicture(audio, html("canvas"), () => {}, { token, kinds: ["audio"] });
      this.#open.set(stream, { live, audio });
      live.play(whep(stream));
    }
  }

  allowSound() {
    for (const { live } of this.#open.values()) live.allowSound();
  }

  get soundIsBlocked() {
    return [...this.#open.values()].some(({ live }) => live.soundIsBlocked);
  }

  /** Stream -> "connecting", "soundonly", ... */
  get states() {
    return Object.fromEntries([...this.#open].map(([stream, { live }]) => [stream, live.state]));
  }
}

/** A wall of pictures that are played only while they are shown. */
export class Wall {
  #place;
  #make;
  #tiles = new Map();

  /**
   * @param {HTMLElement} place
   * @param {(key: string, frame: HTMLElement) => HTMLElement} make  a tile around its frame
   */
  constructor(place, make) {
    this.#place = place;
    this.#make = make;
  }

  get size() {
    return this.#tiles.size;
  }

  tile(key) {
    return this.#tiles.get(key)?.tile;
  }

  picture(key) {
    return this.#tiles.get(key)?.picture;
  }

  /**
   * Show exactly these, in this order.
   *
   * @param {{key: string, stream: string}[]} wanted  stream "": the tile stands without a picture
   */
  show(wanted) {
    const keys = new Set(wanted.map(({ key }) => key));
    for (const [key, { tile, picture }] of this.#tiles) {
      if (keys.has(key)) continue;
      picture.close();
      tile.remove();
      this.#tiles.delete(key);
    }
    wanted.forEach(({ key, stream }, index) => {
      let one = this.#tiles.get(key);
      if (!one) {
        const frame = html("div", "frame");
        one = { tile: this.#make(key, frame), picture: new Picture(frame, { isQuiet: true }) };
        this.#tiles.set(key, one);
      }
      // A tile that is moved would have its picture begin anew.
      if (this.#place.children[index] !== one.tile) {
        this.#place.insertBefore(one.tile, this.#place.children[index] ?? null);
      }
      if (one.picture.stream !== stream) one.picture.show(stream);
    });
  }
}
