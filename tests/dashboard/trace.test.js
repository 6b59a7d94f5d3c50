// The trace: what is drawn where. The canvas writes down what it is asked for.

import assert from "node:assert/strict";
import { test } from "node:test";

import { drawTrace, tickStep } from "../../stream/server/dashboard/trace.js";

globalThis.window = { devicePixelRatio: 1 };
globalThis.document = { documentElement: {} };
globalThis.getComputedStyle = () => ({ getPropertyValue: (name) => name });

function recording(width, height) {
  const calls = [];
  const context = new Proxy({ measureText: () => ({ width: 10 }) }, {
    get: (own, name) => own[name] ?? ((...given) => calls.push([name, ...given])),
    set: (own, name, value) => calls.push(["set", name, value]),
  });
  return { canvas: { clientWidth: width, clientHeight: height, getContext: () => context }, calls };
}

// The path that is drawn in the trace's colour: moveTo begins a line, lineTo goes on with it.
function curve(scores, { fromS = 0, toS = 10 } = {}) {
  const { canvas, calls } = recording(448, 138);
  drawTrace(canvas, { scores, wallOf: ({ timeS }) => timeS, intervals: [], marks: [], fromS, toS, threshold: null, labelAt: String });
  const begun = calls.findIndex((call) => call[0] === "set" && call[2] === "--trace");
  return calls.slice(begun).filter(([name]) => name === "moveTo" || name === "lineTo");
}

const every = (stepS, count, score = 0.5) => Array.from({ length: count }, (_, k) => ({ timeS: k * stepS, score }));

test("labels stand about as far apart as asked, at round times", () => {
  assert.equal(tickStep(30, 1000, 84), 5);
  assert.equal(tickStep(600, 1000, 84), 60);
  assert.equal(tickStep(1, 1000, 84), 1);
  assert.equal(tickStep(1e6, 1000, 84), 14400);
});

test("scores are one line from left to right, the higher the further up", () => {
  const line = curve([{ timeS: 0, score: 0 }, { timeS: 0.5, score: 0.5 }, { timeS: 1, score: 1 }]);
  assert.deepEqual(line.map(([name]) => name), ["moveTo", "lineTo", "lineTo"]);
  const [xs, ys] = [line.map(([, x]) => x), line.map(([, , y]) => y)];
  assert.ok(xs[0] < xs[1] && xs[1] < xs[2]);
  assert.ok(ys[0] > ys[1] && ys[1] > ys[2]);
  assert.ok(Math.abs(ys[0] - ys[1] - (ys[1] - ys[2])) < 1e-9);
});

test("where no score came for a while there is no line", () => {
  const scores = [...every(0.25, 5), ...every(0.25, 5).map(({ timeS, score }) => ({ timeS: timeS + 6, score }))];
  assert.deepEqual(curve(scores).flatMap(([name], k) => (name === "moveTo" ? [k] : [])), [0, 5]);
});

test("only what is in view is drawn", () => {
  const line = curve(every(0.25, 4000), { fromS: 500, toS: 510 });
  assert.ok(line.length >= 40 && line.length <= 50, `${line.length} points`);
});
