// The session as CSV.

import assert from "node:assert/strict";
import { test } from "node:test";

import { csv } from "../../stream/server/dashboard/export.js";

const interval = (id, onset_s, more = {}) => ({
  id, key: id, epoch: "E", source: "camera:0", face: 1, state: "settled", suppressed: null, onset_s, apex_s: onset_s + 0.1,
  offset_s: onset_s + 0.3, score: 0.8, regions: { brows: 0.7, eyes: 0.1, cheeks: 0, mouth: 0.2 }, time: "t", latency_ms: 84, ...more,
});
const session = (intervals, marks = []) => ({ intervals: new Map(intervals.map((one) => [one.id, one])), marks, wall: (_, timeS) => timeS });

function rows(text) {
  const [head, ...lines] = text.trimEnd().split("\r\n").map((line) => line.split(","));
  return lines.map((line) => Object.fromEntries(head.map((name, k) => [name, line[k]])));
}

test("intervals and marks stand in order of time, whatever order they came in", () => {
  const found = rows(csv(session([interval("b", 5), interval("a", 1)], [{ wallS: 3, note: "here" }])));
  assert.deepEqual(found.map(({ kind, id, note }) => [kind, id || note]), [["interval", "a"], ["mark", "here"], ["interval", "b"]]);
  assert.equal(found[0].duration_s, "0.3000");
  assert.equal(found[0].brows, "0.7");
});

test("what is not known is an empty cell, 0 is a figure", () => {
  const [found] = rows(csv(session([interval("a", 0, { apex_s: null, offset_s: null })])));
  assert.deepEqual([found.onset_s, found.apex_s, found.offset_s, found.duration_s, found.cheeks], ["0", "", "", "", "0"]);
});

test("a note with commas, quotes or line breaks stays one cell; one that a spreadsheet would run is text", () => {
  const note = (text) => csv(session([], [{ wallS: 0, note: text }])).split("\r\n", 2)[1].split("Z,,,,").at(-1).replace(/^,*/, "");
  assert.equal(note('he said "no", twice'), '"he said ""no"", twice"');
  assert.equal(note("=1+1"), "'=1+1");
  assert.equal(note("@cmd"), "'@cmd");
  assert.equal(note("plain"), "plain");
});
