// The videos of a session as one: source time in, source time out; frame steps, loops, the aligned face beside it.

const AROUND_S = 0.25; // a loop shows a little of before and after
const TRACK_S = 20;
const NEAR_S = 0.12;

export class Player {
  // element: video; canvas: aligned face; moved(): the shown moment changed; failed(text): there is no picture here
  constructor(api, element, canvas, { moved, failed, noFace }) {
    Object.assign(this, { api, element, canvas, moved, failed, noFace });
    this.session = null;
    this.face = 1;
    this.loop = null;
    this.current = -1;
    this.periodS = 1 / 30;
    this.clock = { stillS: 0 };
    element.addEventListener("error", () => {
      if (element.getAttribute("src")) this.failed(`${this.#video?.name}: this browser can't show the video, or it is damaged`);
    });
    this.#listen();
  }

  open(session) {
    this.session = session;
    this.current = -1;
    this.track = null;
    this.loop = null;
    this.periodS = 1 / session.model.fps;
    this.passed = [];
    this.frameS = null;
    this.stillS = session.starts_s;
    if (!session.videos.length) this.failed("This session has no video.");
    this.seek(session.starts_s);
  }

  close() {
    this.pause();
    this.element.removeAttribute("src");
    this.element.load();
    this.session = null;
  }

  get #video() { return this.session?.videos[this.current]; }
  get playing() { return !this.element.paused; }
  get showsVideo() { return this.#video?.there && this.element.readyState >= 1; }

  // The shown moment on the source's clock.
  get nowS() {
    if (!this.showsVideo || this.wantedS !== null) return this.steppedS ?? this.wantedS ?? this.stillS;
    return this.#video.starts_s + (this.playing ? this.element.currentTime : this.frameS ?? this.element.currentTime);
  }

  seek(sourceS) {
    const { starts_s, ends_s, videos } = this.session;
    const wantedS = Math.min(Math.max(sourceS, starts_s), ends_s);
    this.stillS = this.wantedS = wantedS;
    this.steppedS = null;
    const number = Math.max(videos.findLastIndex((video) => video.starts_s <= wantedS + 1e-6), 0);
    if (number !== this.current && videos.length) this.#load(number);
    else this.#settle();
    this.moved();
  }

  #load(number) {
    this.current = number;
    const playing = this.playing;
    if (!this.#video.there) {
      this.element.removeAttribute("src");
      this.failed(`${this.#video.name} is not where the session says. Put it back to see it; coding works without.`);
      return;
    }
    this.failed("");
    this.element.src = this.api.videoUrl(this.session.name, number);
    this.element.addEventListener("loadedmetadata", () => {
      this.#settle();
      if (playing) this.element.play();
    }, { once: true });
  }

  // A little later than was asked for: where a file names no frame rate, a browser shows the frame before for some ms.
  #settle() {
    if (!this.showsVideo || this.wantedS === null) return;
    const mediaS = Math.max(this.wantedS - this.#video.starts_s, 0);
    this.frameS = null;
    this.element.currentTime = Math.min(mediaS + 0.3 * this.periodS, Math.max(this.element.duration - 1e-3, 0) || mediaS);
  }

  toggle() { if (this.playing) this.pause(); else this.play(); }
  pause() { this.element.pause(); }

  play() {
    if (!this.showsVideo) return;
    if (this.loop && (this.nowS < this.loop.fromS || this.nowS >= this.loop.toS)) this.seek(this.loop.fromS);
    this.element.play().catch(() => {});
  }

  step(frames) {
    this.pause();
    const shown = this.showsVideo && this.frameS !== null;
    const frameS = (shown ? this.#video.starts_s + this.frameS : this.nowS) + frames * this.periodS;
    this.seek(frameS);
    this.steppedS = Math.min(Math.max(frameS, this.session.starts_s), this.session.ends_s);
  }

  setSpeed(speed) {
    this.element.defaultPlaybackRate = this.element.playbackRate = speed;
  }

  loopOver(onsetS, offsetS) {
    this.loop = { fromS: Math.max(onsetS - AROUND_S, this.session.starts_s), toS: Math.min(offsetS + AROUND_S, this.session.ends_s) };
  }

  // Called on every animation frame: keeps a loop going, and goes on with the next video of the session.
  tick() {
    if (!this.session || !this.playing || this.wantedS !== null) return;
    this.moved();
    if (this.loop && this.nowS >= this.loop.toS) return this.seek(this.loop.fromS);
    const next = this.session.videos[this.current + 1];
    if (next && (this.nowS >= next.starts_s || this.element.ended)) this.seek(next.starts_s);
  }

  #listen() {
    const { element } = this;
    this.wantedS = null;
    const shown = (_now, { mediaTime }) => {
      const passedS = this.frameS === null ? 0 : mediaTime - this.frameS;
      if (this.playing && passedS > 0.002 && passedS < 0.2) this.#measure(passedS);
      this.frameS = mediaTime;
      if (!element.seeking) this.wantedS = null;
      if (this.session) {
        this.stillS = this.#video.starts_s + mediaTime;
        this.#drawFace(this.stillS);
        this.moved();
      }
      element.requestVideoFrameCallback(shown);
    };
    element.requestVideoFrameCallback(shown);
    element.addEventListener("seeked", () => { this.wantedS = null; });
    element.addEventListener("ended", () => {
      if (this.loop) { this.seek(this.loop.fromS); this.element.play().catch(() => {}); }
    });
  }

  // A dropped frame doubles a step, nothing halves one: the shortest of the last ones is the video's period.
  #measure(passedS) {
    this.passed = [...this.passed, passedS].slice(-8);
    if (this.passed.length === 8) this.periodS = Math.min(...this.passed);
  }

  setFace(face) {
    this.face = face;
    this.track = null;
    this.#drawFace(this.nowS);
  }

  async #drawFace(atS) {
    const { session, face } = this;
    const track = await this.#trackAt(atS);
    if (session !== this.session || face !== this.face || !track || !this.showsVideo || Math.abs(this.stillS - atS) > this.periodS / 2) return;
    const i = nearest(track.time_s, atS);
    const found = i >= 0 && Math.abs(track.time_s[i] - atS) <= NEAR_S;
    this.noFace(found ? "" : "No face is tracked here.");
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!found) return;
    const [a, b, c, d, e, f] = track.matrix[i].map((x) => (x * this.canvas.width) / session.crop_px);
    context.setTransform(a, d, b, e, c, f);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.element, 0, 0);
  }

  // The track around a moment; asked for once while it is on its way.
  #trackAt(atS) {
    const near = this.track;
    if (!near || near.name !== this.session.name || atS < near.fromS || atS >= near.toS) {
      const fromS = Math.floor(atS / TRACK_S) * TRACK_S;
      const query = { face: this.face, from: fromS - 1, to: fromS + TRACK_S + 1 };
      const rows = this.api.track(this.session.name, query).catch(() => null);
      this.track = { name: this.session.name, fromS, toS: fromS + TRACK_S, rows };
    }
    return this.track.rows;
  }
}

// Index of the entry of ascending `values` that is nearest to `wanted`; -1 if there is none.
export function nearest(values, wanted) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && (low === values.length || wanted - values[low - 1] <= values[low] - wanted)) low -= 1;
  return values.length ? low : -1;
}
