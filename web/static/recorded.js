/**
 * A recorded course on the television: two <video> elements, of which one is seen and the other
 * loads what comes next, so that no change from one course to another shows an empty screen.
 */

// A picture this far from where the timetable has it is moved; less is not worth the jump.
const DRIFT_S = 0.6;
// A slow machine lands a little late wherever it jumps: it is not made to jump all the time.
const SMALL_DRIFT_S = 3;
const JUMP_EVERY_MS = 10_000;
// So long without movement, and the element is given its file anew.
const STUCK_MS = 10_000;
// Between two attempts at a file that does not play.
const AGAIN_MS = 4000;

/**
 * @typedef {object} Reel
 * @property {string} key  item and file: another key is another picture
 * @property {string} src  URL of the file on the box
 * @property {{src: string, lang: string, label: string}[]} subtitles
 */

/** One element and what it was given. */
class Screen {
  key = "";
  /** "empty", "loading", "ready", "playing", "ended" or "broken" */
  state = "empty";
  failedMs = 0;
  movedMs = 0;
  #moved = -1;
  #asked = 0;

  constructor(video, changed) {
    this.video = video;
    const on = (event, then) => video.addEventListener(event, () => {
      if (this.key === "") return;
      then();
      changed();
    });
    on("loadedmetadata", () => this.#seek());
    on("canplay", () => {
      if (this.state === "loading") this.state = "ready";
    });
    on("playing", () => (this.state = "playing"));
    on("ended", () => (this.state = "ended"));
    on("error", () => this.fail());
  }

  fail() {
    this.state = "broken";
    this.failedMs = performance.now();
  }

  /** @param {Reel} reel @param {number} offsetS  where to begin */
  load(reel, offsetS) {
    const { video } = this;
    this.key = reel.key;
    this.state = "loading";
    this.#asked = offsetS;
    this.#moved = -1;
    this.movedMs = performance.now();
    video.replaceChildren(...reel.subtitles.map(({ src, lang, label }, index) => {
      const track = document.createElement("track");
      Object.assign(track, { kind: "subtitles", src, srclang: lang, label, default: index === 0 });
      return track;
    }));
    video.src = reel.src;
    video.load();
  }

  #seek() {
    const { duration } = this.video;
    if (Number.isFinite(duration) && this.#asked >= duration) {
      this.state = "ended";
    } else if (this.#asked > 0.3) {
      this.video.currentTime = this.#asked;
    }
  }

  moveTo(offsetS) {
    this.#asked = offsetS;
    if (this.video.readyState >= HTMLMediaElement.HAVE_METADATA) this.#seek();
  }

  /** Note whether the picture has moved since the last look. */
  look(nowMs) {
    if (this.video.currentTime !== this.#moved) {
      this.#moved = this.video.currentTime;
      this.movedMs = nowMs;
    }
  }

  empty() {
    if (this.key === "") return;
    this.key = "";
    this.state = "empty";
    this.video.dataset.on = "no";
    this.video.pause();
    this.video.replaceChildren();
    this.video.removeAttribute("src");
    this.video.load();
  }
}

export class RecordedPicture {
  /** The browser wants a key pressed before it lets sound out. */
  soundIsBlocked = false;
  /** Attempts at files that did not play, since the page began. */
  failures = 0;

  #shown;
  #spare;
  #playing = false;
  #jumpedMs = -Infinity;

  /**
   * @param {[HTMLVideoElement, HTMLVideoElement]} videos
   * @param {() => void} changed  called when a state has changed
   */
  constructor([a, b], changed) {
    this.#shown = new Screen(a, changed);
    this.#spare = new Screen(b, changed);
  }

  /** Whether a picture of `key` is on the screen, moving or not. */
  shows(key) {
    return this.#shown.key === key && this.#shown.video.dataset.on === "yes";
  }

  /** The state of what is played: see `Screen.state`. */
  get state() {
    return this.#shown.state;
  }

  get key() {
    return this.#shown.key;
  }

  /** Seconds into the file. */
  get positionS() {
    return this.#shown.video.currentTime;
  }

  /** How long the picture has stood still, ms. */
  stillMs(nowMs = performance.now()) {
    return this.#shown.state === "ended" ? 0 : nowMs - this.#shown.movedMs;
  }

  /** What went wrong with the file, "" if nothing did: the browser's own words. */
  get error() {
    const { error } = this.#shown.video;
    return error ? `${error.code} ${error.message}`.slice(0, 200) : "";
  }

  /** Load the beginning of what comes next, unseen and unheard. */
  prepare(reel) {
    if (this.#spare.key === reel.key || this.#shown.key === reel.key) return;
    // The picture before may still be what is seen.
    if (this.#spare.video.dataset.on === "yes") return;
    this.#spare.load(reel, 0);
  }

  /**
   * Have `reel` on the screen at `offsetS`. Call it again and again: it starts what is not there,
   * moves what has drifted and tries anew what has failed.
   *
   * @param {number} rate  seconds of the film in one, 1 but for a trial of a whole day
   */
  play(reel, offsetS, rate = 1, nowMs = performance.now()) {
    this.#playing = true;
    if (this.#shown.key !== reel.key) this.#change(reel, offsetS);
    const { video } = this.#shown;
    const shown = this.#shown;
    shown.look(nowMs);
    if (shown.state === "broken") {
      if (nowMs - shown.failedMs > AGAIN_MS) this.#again(reel, offsetS);
      return;
    }
    if (shown.state === "ended") {
      // A jump of the clock may have brought us back into it.
      if (Number.isFinite(video.duration) && offsetS < video.duration - SMALL_DRIFT_S) {
        shown.state = "loading";
        shown.moveTo(offsetS);
      }
      return;
    }
    if (nowMs - shown.movedMs > STUCK_MS) {
      this.#again(reel, offsetS);
      return;
    }
    if (shown.state === "loading") return;
    if (video.dataset.on !== "yes") {
      video.dataset.on = "yes";
      this.#spare.video.dataset.on = "no";
      shown.moveTo(offsetS);
    }
    this.#correct(offsetS, rate, nowMs);
    if (video.paused) this.#start(video);
  }

  #correct(offsetS, rate, nowMs) {
    const { video } = this.#shown;
    // Browsers play at 16 times at most.
    const speed = Math.min(Math.max(rate, 0.0625), 16);
    if (video.playbackRate !== speed) video.playbackRate = speed;
    if (video.seeking || !Number.isFinite(video.duration)) return;
    if (offsetS >= video.duration) {
      this.#shown.state = "ended";
      return;
    }
    const drift = Math.abs(video.currentTime - offsetS) / Math.max(1, rate);
    const wait = drift < SMALL_DRIFT_S ? JUMP_EVERY_MS : 0;
    if (drift > DRIFT_S && nowMs - this.#jumpedMs > wait) {
      this.#jumpedMs = nowMs;
      this.#shown.moveTo(offsetS);
    }
  }

  /** Nothing recorded is on now; what was prepared stays. */
  stop() {
    if (!this.#playing) return;
    this.#playing = false;
    this.#shown.empty();
  }

  /** Somebody has pressed a key: sound may come. */
  allowSound() {
    this.soundIsBlocked = false;
    this.#shown.video.muted = false;
    this.#start(this.#shown.video);
  }

  #change(reel, offsetS) {
    // The old picture stays on the screen until the new one has something to show.
    [this.#shown, this.#spare] = [this.#spare, this.#shown];
    if (this.#shown.key !== reel.key) this.#shown.load(reel, offsetS);
    else this.#shown.movedMs = performance.now();
    this.#spare.video.pause();
  }

  #again(reel, offsetS) {
    this.failures += 1;
    this.#shown.load(reel, offsetS);
  }

  async #start(video) {
    video.muted = this.soundIsBlocked;
    try {
      await video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError" || video.muted) return;
      this.soundIsBlocked = true;
      video.muted = true;
      await video.play().catch(() => {
        // The next round tries again.
      });
    }
  }
}
