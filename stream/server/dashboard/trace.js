// Canvas drawing of one face's scores and of the whole session.

export const STATE_COLOURS = { open: "open", settled: "settled", retracted: "retracted", unsettled: "retracted" };

export function palette() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

export function prepare(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, 'DejaVu Sans', sans-serif";
  return { context, width, height };
}

export function glyph(context, state, x, y, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 2;
  context.beginPath();
  if (state === "settled") {
    context.moveTo(x, y - 5); context.lineTo(x + 5, y); context.lineTo(x, y + 5); context.lineTo(x - 5, y);
    context.fill();
  } else if (state === "open") {
    context.setLineDash([2, 2]);
    context.strokeRect(x - 4, y - 4, 8, 8);
    context.setLineDash([]);
  } else {
    context.moveTo(x - 4, y - 4); context.lineTo(x + 4, y + 4); context.moveTo(x + 4, y - 4); context.lineTo(x - 4, y + 4);
    context.stroke();
  }
}

export function flag(context, x, top, bottom, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, top); context.lineTo(x, bottom);
  context.stroke();
  context.beginPath();
  context.moveTo(x, top); context.lineTo(x + 9, top + 4); context.lineTo(x, top + 8);
  context.fill();
}

// Step between labels so that they stand about `apart` px from each other.
export function tickStep(spanS, width, apart) {
  const least = (spanS * apart) / width;
  return [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200].find((step) => step >= least) ?? 14400;
}

// One face's trace from `fromS` to `toS` (wall clock, s). `intervals`: [{state, startS, apexS, endS, label}].
// `wallOf` places a score on the wall clock.
export function drawTrace(canvas, { scores, wallOf, intervals, marks, fromS, toS, threshold, labelAt }) {
  const colour = palette();
  const { context, width, height } = prepare(canvas);
  const left = 34, right = width - 14, top = 16, bottom = height - 22;
  const x = (s) => left + ((s - fromS) / (toS - fromS)) * (right - left);
  const y = (score) => bottom - score * (bottom - top);

  context.strokeStyle = colour("line");
  context.fillStyle = colour("soft");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const level of [0, 0.5, 1]) {
    context.beginPath();
    context.moveTo(left, y(level)); context.lineTo(right, y(level));
    context.stroke();
    context.fillText(level === 0.5 ? ".5" : String(level), left - 6, y(level));
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const step = tickStep(toS - fromS, right - left, 84);
  for (let tick = Math.ceil(fromS / step) * step; tick <= toS; tick += step) {
    if (x(tick) > left + 24 && x(tick) < right - 24) context.fillText(labelAt(tick), x(tick), bottom + 7);
  }

  context.save();
  context.beginPath();
  context.rect(left, 0, right - left, height);
  context.clip();
  intervals.sort((a, b) => a.startS - b.startS);
  intervals.forEach((interval, i) => band(context, colour, interval, x, top, bottom, i + 1 < intervals.length ? x(intervals[i + 1].startS) : right));
  if (threshold !== null && threshold !== undefined) {
    context.strokeStyle = colour("threshold");
    context.lineWidth = 1.25;
    context.setLineDash([6, 4]);
    context.beginPath();
    context.moveTo(left, y(threshold)); context.lineTo(right, y(threshold));
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour("threshold");
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.fillText("threshold", left + 4, y(threshold) - 2);
  }
  curve(context, colour, scores, wallOf, x, y, fromS, toS);
  for (const mark of marks) flag(context, x(mark.wallS), top, bottom, colour("mark"));
  context.restore();
}

function band(context, colour, { state, startS, apexS, endS, label }, x, top, bottom, nextX) {
  const name = STATE_COLOURS[state];
  const x0 = x(startS), x1 = Math.max(x(endS), x0 + 2);
  if (x1 < 0) return;
  context.fillStyle = colour(`${name}-fill`);
  context.fillRect(x0, top, x1 - x0, bottom - top);
  context.strokeStyle = colour(name);
  context.lineWidth = 1.25;
  context.setLineDash(state === "settled" ? [] : [3, 3]);
  context.strokeRect(x0, top, x1 - x0, bottom - top);
  context.setLineDash([]);
  if (apexS !== null && state !== "retracted") {
    context.beginPath();
    context.moveTo(x(apexS), bottom); context.lineTo(x(apexS), bottom - 7);
    context.stroke();
  }
  glyph(context, state, (x0 + x1) / 2, top - 8, colour(name));
  if (label && (x0 + x1) / 2 + 16 + context.measureText(label).width < nextX) {
    context.fillStyle = colour(name);
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(label, (x0 + x1) / 2 + 9, top - 8);
  }
}

function curve(context, colour, scores, wallOf, x, y, fromS, toS) {
  let low = 0, high = scores.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (wallOf(scores[middle]) < fromS - 1) low = middle + 1;
    else high = middle;
  }
  context.strokeStyle = colour("trace");
  context.lineWidth = 1.75;
  context.lineJoin = "round";
  context.beginPath();
  const stride = Math.max(1, Math.floor((scores.length - low) / 4000));
  let beforeS = null;
  for (let i = low; i < scores.length; i += stride) {
    const { timeS, score } = scores[i], wallS = wallOf(scores[i]);
    if (wallS > toS + 1) break;
    if (beforeS !== null && Math.abs(timeS - beforeS) < Math.max(1, stride)) context.lineTo(x(wallS), y(score));
    else context.moveTo(x(wallS), y(score)); // nothing is known in between: no line
    beforeS = timeS;
  }
  context.stroke();
}

export const LANES_PX = 22; // where the numbers of the faces stand

// The whole session, one lane per face, with the part that the traces show framed.
export function drawTimeline(canvas, { lanes, marks, notices, startS, nowS, fromS, toS, labelAt }) {
  const colour = palette();
  const { context, width, height } = prepare(canvas);
  const bottom = height - 20;
  const x = (s) => LANES_PX + ((s - startS) / Math.max(nowS - startS, 1)) * (width - LANES_PX);
  context.fillStyle = colour("sunk");
  context.fillRect(LANES_PX, 0, width - LANES_PX, bottom);
  context.fillStyle = colour("panel");
  context.fillRect(x(fromS), 0, Math.max(x(toS) - x(fromS), 3), bottom);
  const laneHeight = bottom / Math.max(lanes.length, 1);
  lanes.forEach((lane, row) => {
    const y = (row + 0.5) * laneHeight;
    for (const { state, startS: at } of lane.intervals) glyph(context, state, Math.min(Math.max(x(at), LANES_PX + 6), width - 6), y, colour(STATE_COLOURS[state]));
    if (lanes.length > 1) {
      context.fillStyle = colour("soft");
      context.textAlign = "left";
      context.textBaseline = "middle";
      context.fillText(String(lane.number), 6, y);
    }
  });
  context.strokeStyle = colour("soft");
  context.setLineDash([2, 3]);
  for (const { wallS } of notices) {
    context.beginPath();
    context.moveTo(x(wallS), 0); context.lineTo(x(wallS), bottom);
    context.stroke();
  }
  context.setLineDash([]);
  for (const mark of marks) flag(context, Math.min(x(mark.wallS), width - 10), 1, bottom, colour("mark"));
  context.strokeStyle = colour("settled");
  context.lineWidth = 2;
  context.strokeRect(Math.min(x(fromS), width - 4) + 1, 1, Math.max(x(toS) - x(fromS) - 2, 3), bottom - 2);
  context.fillStyle = colour("soft");
  context.textBaseline = "top";
  const step = tickStep(nowS - startS, width, 84);
  for (let tick = Math.ceil(startS / step) * step; tick <= nowS; tick += step) {
    if (x(tick) < 28 || x(tick) > width - 28) continue;
    context.textAlign = "center";
    context.fillText(labelAt(tick), x(tick), bottom + 5);
  }
}
