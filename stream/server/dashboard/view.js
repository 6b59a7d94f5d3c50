// Which stretch of the session the traces show: the newest seconds, or wherever the person scrolled to.

import { LANES_PX, drawTimeline } from "./trace.js";
import { clock, duration } from "./words.js";

const LIVE_LAG_S = 0.25; // the newest score is this old anyway: a trace that ends at its right edge looks steadier

export class View {
  constructor(session, canvas, label, liveButton) {
    Object.assign(this, { session, canvas, labelElement: label, liveButton });
    this.spanS = 30;
    this.heldS = null; // right edge on the wall clock; null is live
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#jump(event);
      canvas.onpointermove = (move) => this.#jump(move);
    });
    canvas.addEventListener("pointerup", () => { canvas.onpointermove = null; });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -this.spanS / 4, ArrowRight: this.spanS / 4, PageUp: -this.spanS, PageDown: this.spanS, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.move(step);
    });
  }

  get nowS() { return this.session.now() - LIVE_LAG_S; }
  get toS() { return this.heldS ?? this.nowS; }
  get fromS() { return this.toS - this.spanS; }

  move(byS) {
    const first = this.session.startS + this.spanS;
    const wanted = Math.max(this.toS + byS, first);
    this.heldS = wanted >= this.nowS ? null : wanted;
  }

  centre(wallS) {
    this.heldS = null;
    this.move(wallS + this.spanS / 2 - this.toS);
  }

  goLive() { this.heldS = null; }
  zoom(by) { this.spanS = Math.min(Math.max(this.spanS * by, 7.5), 600); }
  label(wallS) { return clock(wallS); }

  #jump(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    const startS = this.session.startS;
    const at = startS + ((event.clientX - left - LANES_PX) / (width - LANES_PX)) * Math.max(this.nowS - startS, 1);
    this.centre(at);
  }

  draw() {
    const { session } = this;
    const lanes = [...session.faces.values()].map(({ number }) => ({ number, intervals: [] }));
    const byNumber = new Map(lanes.map((lane) => [lane.number, lane]));
    for (const interval of session.intervals.values()) {
      byNumber.get(interval.face)?.intervals.push({ state: interval.state, startS: session.wall(interval.epoch, interval.onset_s) });
    }
    const { fromS, toS, nowS } = this;
    drawTimeline(this.canvas, {
      lanes: lanes.filter((lane) => lane.intervals.length || !session.faces.get(lane.number).gone), marks: session.marks,
      notices: session.notices, startS: session.startS, nowS, fromS: Math.max(fromS, session.startS), toS, labelAt: clock,
    });
    this.liveButton.disabled = this.heldS === null;
    const text = this.heldS === null ? `live · last ${duration(Math.min(this.spanS, nowS - session.startS))}` : `${clock(fromS)} – ${clock(toS)}`;
    const shown = `${text} of ${duration(nowS - session.startS)}`;
    if (this.labelElement.textContent !== shown) {
      this.labelElement.textContent = shown;
      this.canvas.setAttribute("aria-valuemax", String(Math.round(nowS - session.startS)));
      this.canvas.setAttribute("aria-valuenow", String(Math.round(toS - session.startS)));
      this.canvas.setAttribute("aria-valuetext", shown);
    }
  }
}
