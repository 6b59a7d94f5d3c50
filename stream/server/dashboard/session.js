// What is known of the session: faces, scores, intervals, marks. Knows neither the page nor the network.

const SCORES_KEPT = 60000; // per face: two hours at eight a second
const PREVIEWS_KEPT_S = 8;
const WITH_FRAMES_KEPT = 80; // intervals that keep their crops
const AROUND_S = 0.35;
const DRIFT_S = 0.5;
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
    this.taken = new Map(); // epoch -> newest seq that was taken in
    this.counts = { events: 0, duplicates: 0 };
    this.clocks = new Map(); // epoch -> [{ fromS, s }]: from fromS on (source clock) the wall clock is s ahead
    this.startS = now();
  }

  // Returns what changed: "hello", "event", "status", "scores", "preview", "gap" or null for nothing.
  take(message) {
    const take = { hello: this.#hello, event: this.#event, status: this.#status, scores: this.#scores, preview: this.#preview, gap: this.#gap };
    return Object.hasOwn(take, message.type) ? take[message.type].call(this, message) : null;
  }

  #hello(hello) {
    if (this.hello && this.hello.epoch !== hello.epoch) {
      this.notices.push({ wallS: this.now(), text: "The program restarted" });
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
    if (event.seq <= (this.taken.get(event.epoch) ?? 0)) {
      this.counts.duplicates++;
      return null;
    }
    this.taken.set(event.epoch, event.seq);
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
    scores.push({ epoch: this.hello.epoch, timeS: time_s, score, threshold });
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
    this.notices.push({ wallS: this.now(), text: `${what} could not be fetched: no longer in the journal` });
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
    const clocks = this.clocks.get(epoch);
    return clocks ? timeS + (clocks.findLast(({ fromS }) => fromS <= timeS) ?? clocks[0]).s : this.now();
  }

  endOf(interval) {
    return interval.offset_s ?? interval.apex_s ?? interval.onset_s;
  }

  // Telemetry comes as it happens, so the smallest distance to now is the offset between the clocks. It grows when the
  // source waits (a file on a machine that is too slow): what was placed on the wall clock before stays where it is.
  #liveClock(timeS) {
    const clocks = this.clocks.get(this.hello.epoch);
    const last = clocks?.at(-1);
    const s = this.now() - timeS;
    if (!last?.live || timeS < last.fromS) this.clocks.set(this.hello.epoch, [{ fromS: -Infinity, s, live: true }]);
    else if (s < last.s) this.#sooner(clocks, s);
    else if (s > last.s + DRIFT_S) clocks.push({ fromS: timeS, s, live: true });
  }

  // What came late in a bunch had made the clock seem further off than it was: undo that, so that time never runs back.
  #sooner(clocks, s) {
    while (clocks.length > 1 && clocks.at(-2).s > s) clocks.pop();
    clocks.at(-1).s = s;
  }

  // An event from before we were there: its wall clock was taken shortly behind its offset.
  #guessClock(event) {
    if (this.clocks.has(event.epoch)) return;
    const settleS = event.phase === "start" ? 0.25 : 0.4;
    this.clocks.set(event.epoch, [{ fromS: -Infinity, s: Date.parse(event.time) / 1000 - settleS - this.endOf(event), live: false }]);
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
