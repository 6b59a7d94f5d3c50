// The score trace around the shown moment, and below it the whole session; both are there to scrub.

import { palette, prepare, tickStep } from "../trace.js";
import { duration } from "../words.js";

const LEFT_PX = 34, RIGHT_PX = 12;
const SPAN_S = 12;

export class Timeline {
  // seek(sourceS): the person points at a moment
  constructor(api, trace, overview, { seek, opened }) {
    Object.assign(this, { api, trace, overview, seek, opened });
    this.#scrub(trace, () => [this.fromS, this.fromS + this.spanS]);
    this.#scrub(overview, () => [this.session.starts_s, Math.max(this.session.ends_s, this.session.starts_s + 1)]);
    trace.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey) this.zoom(event.deltaY > 0 ? 1.25 : 0.8);
      else this.seek(this.nowS + ((event.deltaX || event.deltaY) / trace.clientWidth) * this.spanS);
    }, { passive: false });
  }

  open(session) {
    this.session = session;
    this.spanS = Math.min(SPAN_S, Math.max(session.ends_s - session.starts_s, 1));
    this.nowS = this.fromS = session.starts_s;
    this.#forget();
  }

  setFace(face) {
    this.face = face;
    this.#forget();
  }

  zoom(by) { this.spanS = Math.min(Math.max(this.spanS * by, 1), 3600); }

  #forget() {
    this.near = this.whole = null;
    this.asked = new Set();
  }

  // rows: [{onset_s, apex_s, offset_s, verdict, selected}] of the shown face; verdict null: the machine's alone
  draw(nowS, rows) {
    this.nowS = nowS;
    const { session } = this;
    if (!this.held) this.#follow();
    if (!session.hidden) this.#load();
    drawTrace(this.trace, { points: this.near, rows, fromS: this.fromS, toS: this.fromS + this.spanS, nowS, startS: session.starts_s, hidden: session.hidden });
    drawOverview(this.overview, { points: this.whole, rows, startS: session.starts_s, endS: session.ends_s, fromS: this.fromS, toS: this.fromS + this.spanS, nowS });
    this.trace.setAttribute("aria-valuemax", String(Math.round(session.ends_s - session.starts_s)));
    this.trace.setAttribute("aria-valuenow", String(Math.round(nowS - session.starts_s)));
    this.trace.setAttribute("aria-valuetext", duration(nowS - session.starts_s));
  }

  // The window moves as little as it can to keep the moment within its middle.
  #follow() {
    const { session, spanS } = this;
    if (this.nowS < this.fromS + spanS * 0.2) this.fromS = this.nowS - spanS * 0.2;
    if (this.nowS > this.fromS + spanS * 0.8) this.fromS = this.nowS - spanS * 0.8;
    this.fromS = Math.max(Math.min(this.fromS, session.ends_s - spanS), session.starts_s);
  }

  #load() {
    const { session } = this;
    if (!this.whole) this.#ask("whole", session.starts_s, session.ends_s, 1500);
    const near = this.near;
    const covers = near && near.fromS <= Math.max(this.fromS, session.starts_s) && near.toS >= Math.min(this.fromS + this.spanS, session.ends_s);
    const fine = near && near.toS - near.fromS <= 6 * this.spanS;
    if (!covers || !fine) this.#ask("near", Math.max(this.fromS - this.spanS, session.starts_s), Math.min(this.fromS + 2 * this.spanS, session.ends_s), 4000);
  }

  async #ask(which, fromS, toS, points) {
    if (this.asked.has(which)) return;
    const asked = this.asked;
    asked.add(which);
    try {
      const found = await this.api.trace(this.session.name, { face: this.face, from: fromS, to: toS, points });
      if (asked !== this.asked) return; // another face or session is shown by now
      this[which] = { ...found, fromS, toS };
      asked.delete(which);
      this.opened();
    } catch {
      setTimeout(() => asked.delete(which), 2000);
    }
  }

  #scrub(canvas, range) {
    const seek = ({ clientX }) => {
      const { left, width } = canvas.getBoundingClientRect();
      const share = Math.min(Math.max((clientX - left - LEFT_PX) / (width - LEFT_PX - RIGHT_PX), 0), 1);
      const [fromS, toS] = range();
      this.seek(fromS + share * (toS - fromS));
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.held = canvas === this.trace; // the trace stays where it is under the finger
      seek(event);
      canvas.onpointermove = seek;
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => { canvas.onpointermove = null; this.held = false; });
    }
  }
}

const COLOURS = { accepted: "good", added: "mark", rejected: "retracted" };

function drawTrace(canvas, { points, rows, fromS, toS, nowS, startS, hidden }) {
  const colour = palette();
  const { context, width, height } = prepare(canvas);
  const right = width - RIGHT_PX, top = 10, bottom = height - 22;
  const x = (s) => LEFT_PX + ((s - fromS) / (toS - fromS)) * (right - LEFT_PX);
  const y = (score) => bottom - score * (bottom - top);
  axes(context, colour, { x, y, right, bottom, fromS, toS, startS, hidden });
  context.save();
  context.beginPath();
  context.rect(LEFT_PX, 0, right - LEFT_PX, height);
  context.clip();
  for (const row of rows) band(context, colour, row, x, top, bottom);
  if (points) {
    curve(context, points, x, y, "threshold", colour("threshold"), [6, 4]);
    curve(context, points, x, y, "high", colour("trace"), []);
  } else if (hidden) {
    context.fillStyle = colour("soft");
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText("Blind: the machine's scores are hidden until you are done", (LEFT_PX + right) / 2, (top + bottom) / 2);
  }
  playhead(context, colour, x(nowS), 0, bottom);
  context.restore();
}

function axes(context, colour, { x, y, right, bottom, fromS, toS, startS, hidden }) {
  context.strokeStyle = colour("line");
  context.fillStyle = colour("soft");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const level of hidden ? [0] : [0, 0.5, 1]) {
    context.beginPath();
    context.moveTo(LEFT_PX, y(level)); context.lineTo(right, y(level));
    context.stroke();
    if (!hidden) context.fillText(level === 0.5 ? ".5" : String(level), LEFT_PX - 6, y(level));
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const step = tickStep(toS - fromS, right - LEFT_PX, 84);
  for (let tick = Math.ceil((fromS - startS) / step) * step; tick <= toS - startS; tick += step) {
    const at = x(tick + startS);
    if (at > LEFT_PX + 12 && at < right - 16) context.fillText(duration(tick), at, bottom + 7);
  }
}

function band(context, colour, { onset_s, apex_s, offset_s, verdict, selected }, x, top, bottom) {
  const left = x(onset_s), wide = Math.max(x(offset_s) - left, 2), ink = colour(COLOURS[verdict] ?? "settled");
  context.fillStyle = context.strokeStyle = ink;
  context.globalAlpha = selected ? 0.34 : 0.18;
  context.fillRect(left, top, wide, bottom - top);
  context.globalAlpha = 1;
  context.lineWidth = selected ? 2.5 : 1;
  context.setLineDash(verdict === "rejected" ? [3, 3] : []);
  context.strokeRect(left, top, wide, bottom - top);
  context.setLineDash([]);
  if (apex_s !== null) {
    context.beginPath();
    context.moveTo(x(apex_s), bottom); context.lineTo(x(apex_s) - 5, bottom + 6); context.lineTo(x(apex_s) + 5, bottom + 6);
    context.fill();
  }
}

// A line through the highest scores, with the range to the lowest filled; broken where nothing was scored.
function curve(context, points, x, y, name, ink, dash) {
  const { time_s: times, [name]: values, low } = points;
  const usualS = times.length > 1 ? (times.at(-1) - times[0]) / (times.length - 1) : 1;
  context.strokeStyle = ink;
  context.lineWidth = name === "high" ? 1.6 : 1.25;
  context.setLineDash(dash);
  context.beginPath();
  times.forEach((s, i) => {
    if (values[i] === null) return;
    const joined = i > 0 && values[i - 1] !== null && s - times[i - 1] < Math.max(3 * usualS, 0.5);
    if (joined) context.lineTo(x(s), y(values[i]));
    else context.moveTo(x(s), y(values[i]));
    if (name === "high" && low[i] < values[i]) { context.lineTo(x(s), y(low[i])); context.lineTo(x(s), y(values[i])); }
  });
  context.stroke();
  context.setLineDash([]);
}

function drawOverview(canvas, { points, rows, startS, endS, fromS, toS, nowS }) {
  const colour = palette();
  const { context, width, height } = prepare(canvas);
  const right = width - RIGHT_PX;
  const x = (s) => LEFT_PX + ((s - startS) / Math.max(endS - startS, 1)) * (right - LEFT_PX);
  context.fillStyle = colour("sunk");
  context.fillRect(LEFT_PX, 0, right - LEFT_PX, height);
  for (const { onset_s, offset_s, verdict } of rows) {
    context.fillStyle = colour(COLOURS[verdict] ?? "settled");
    context.fillRect(x(onset_s), height - 9, Math.max(x(offset_s) - x(onset_s), 2), 9);
  }
  if (points) curve(context, points, x, (score) => height - 10 - score * (height - 13), "high", colour("soft"), []);
  context.strokeStyle = colour("text");
  context.lineWidth = 1.5;
  context.strokeRect(x(fromS), 1, Math.max(x(Math.min(toS, endS)) - x(fromS), 4), height - 2);
  playhead(context, colour, x(nowS), 0, height);
}

function playhead(context, colour, at, top, bottom) {
  context.strokeStyle = colour("text");
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(at, top); context.lineTo(at, bottom);
  context.stroke();
}
