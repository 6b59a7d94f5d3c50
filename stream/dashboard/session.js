// What is known of the session: faces, scores, intervals, marks. Knows neither the page nor the network.

const SCORES_KEPT = 60000; // per face: two hours at eight a second
const PREVIEWS_KEPT_S = 8;
const WITH_FRAMES_KEPT = 80; // intervals that keep their crops
const AROUND_S = 0.35;
const SETTLE_MS = 600; // the crops behind the offset are still on their way when `end` comes

export class Session {
  constructor(now = () => Date.now() / 1000) {
    this.now = now;
    this.faces = new Map();
    this.intervals = new Map();
    this.marks = [];
    this.notices = [];
    this.hello = null;
    this.status = null;
    this.cursor = null;
    this.counts = { events: 0, duplicates: 0 };
    this.shifts = new Map(); // epoch -> { s: wall clock minus source clock, live }
    this.startS = now();
  }

  // Returns what changed: "hello", "event", "status", "scores", "preview", "gap" or null for nothing.
  take(message) {
    const take = { hello: this.#hello, event: this.#event, status: this.#status, scores: this.#scores, preview: this.#preview, gap: this.#gap };
    return Object.hasOwn(take, message.type) ? take[message.type].call(this, message) : null;
  }

  #hello(hello) {
    if (this.hello && this.hello.epoch !== hello.epoch) {
      this.notices.push({ wallS: this.now(), text: "The program was restarted" });
      for (const face of this.faces.values()) face.gone = true;
    }
    for (const interval of this.intervals.values()) {
      // the program that began it is gone and cannot settle it, unless its last words are still to come
      if (interval.state === "open" && interval.epoch !== hello.epoch) interval.state = "unsettled";
    }
    this.hello = hello;
    return "hello";
  }

  #event(event) {
    const at = this.cursor;
    if (at && (event.epoch < at.epoch || (event.epoch === at.epoch && event.seq <= at.seq))) {
      this.counts.duplicates++;
      return null;
    }
    this.cursor = { epoch: event.epoch, seq: event.seq };
    this.counts.events++;
    const state = { end: "settled", retract: "retracted" }[event.phase] ?? (event.epoch === this.hello?.epoch ? "open" : "unsettled");
    const before = this.intervals.get(event.id);
    const interval = Object.assign(before ?? { frames: [], key: event.id }, event, { state });
    this.intervals.set(event.id, interval);
    this.#guessClock(event);
    const wallS = this.wall(event.epoch, event.onset_s);
    if (wallS < this.startS) this.startS = wallS;
    this.face(event.face).last = interval;
    if (state === "settled" || state === "retracted") setTimeout(() => this.#keepFrames(interval), SETTLE_MS);
    return "event";
  }

  #status(status) {
    this.status = status;
    const present = new Set(status.faces.map((face) => face.face));
    for (const known of status.faces) Object.assign(this.face(known.face), { state: known.state, reason: known.reason, gone: false });
    for (const face of this.faces.values()) if (!present.has(face.number)) face.gone = true;
    return "status";
  }

  #scores({ face: number, time_s, score, threshold }) {
    this.#liveClock(time_s);
    const { scores } = this.face(number);
    scores.push({ wallS: this.wall(this.hello.epoch, time_s), score, threshold });
    if (scores.length > SCORES_KEPT) scores.splice(0, SCORES_KEPT / 10);
    return "scores";
  }

  #preview({ face: number, time_s, jpeg }) {
    this.#liveClock(time_s);
    const { previews } = this.face(number);
    if (previews.length && time_s < previews.at(-1).timeS) previews.length = 0; // the source began anew
    previews.push({ timeS: time_s, jpeg });
    while (previews[0].timeS < time_s - PREVIEWS_KEPT_S) previews.shift();
    return "preview";
  }

  #gap({ from, to }) {
    const what = to === null ? "Some events" : from === to ? `Event ${from}` : `Events ${from} to ${to}`;
    this.notices.push({ wallS: this.now(), text: `${what} could not be had any more` });
    return "gap";
  }

  face(number) {
    if (!this.faces.has(number)) {
      this.faces.set(number, { number, state: "watching", reason: null, scores: [], previews: [], last: null, gone: false });
    }
    return this.faces.get(number);
  }

  mark() {
    const mark = { wallS: this.now(), note: "", key: `mark-${this.marks.length}-${Math.random()}` };
    this.marks.push(mark);
    return mark;
  }

  unmark(mark) {
    this.marks = this.marks.filter((other) => other !== mark);
  }

  // Wall clock, s since 1970, of a moment on the source's clock of an epoch.
  wall(epoch, timeS) {
    return timeS + (this.shifts.get(epoch)?.s ?? this.now() - timeS);
  }

  endOf(interval) {
    return interval.offset_s ?? interval.apex_s ?? interval.onset_s;
  }

  // Telemetry comes as it happens, so the smallest distance to now is the offset between the clocks.
  #liveClock(timeS) {
    const epoch = this.hello.epoch;
    const s = this.now() - timeS;
    const known = this.shifts.get(epoch);
    if (!known?.live || s < known.s || s > known.s + 2) this.shifts.set(epoch, { s, live: true });
  }

  // An event from before we were there: its wall clock was taken shortly behind its offset.
  #guessClock(event) {
    if (this.shifts.has(event.epoch)) return;
    const settleS = event.phase === "start" ? 0.25 : 0.4;
    this.shifts.set(event.epoch, { s: Date.parse(event.time) / 1000 - settleS - this.endOf(event), live: false });
  }

  // Crops are kept in this page's memory alone, for the newest intervals.
  #keepFrames(interval) {
    if (interval.frames.length || interval.epoch !== this.hello.epoch) return;
    const from = interval.onset_s - AROUND_S, to = this.endOf(interval) + AROUND_S;
    interval.frames = this.face(interval.face).previews.filter(({ timeS }) => timeS >= from && timeS <= to);
    const holding = [...this.intervals.values()].filter((other) => other.frames.length);
    for (const old of holding.slice(0, Math.max(0, holding.length - WITH_FRAMES_KEPT))) old.frames = [];
  }
}
