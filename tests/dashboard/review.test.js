// What a coder does on the review page: verdicts, undo, merging with another page, action units.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Coding, added, judged, merge, moved, rowsOf } from "../../stream/server/dashboard/review/coding.js";
import { nearest } from "../../stream/server/dashboard/review/player.js";
import { parseUnits, unitsText } from "../../stream/server/dashboard/review/units.js";

const interval = (id, onset_s) => ({ id, face: 1, onset_s, apex_s: onset_s + 0.2, offset_s: onset_s + 0.4, score: 0.9, regions: {} });
const accepted = (id, onset_s) => judged(interval(id, onset_s), null, "accepted");
const stored = (marks = [], revision = 0) => ({ version: 1, coder: "Anna", session: "s", marks, blind: false, done: false, revision });

test("a verdict keeps what the coder moved and wrote", () => {
  const mark = { ...accepted("a", 1), onset_s: 0.9, note: "lip", units: parseUnits("12A") };
  const rejected = judged(interval("a", 1), mark, "rejected", "blink");
  assert.deepEqual([rejected.onset_s, rejected.note, rejected.units.length, rejected.reason], [0.9, "lip", 1, "blink"]);
});

test("no boundary can be moved past another; an apex outside is unset", () => {
  const mark = accepted("a", 1);
  assert.equal(moved(mark, "onset_s", 2), null);
  assert.equal(moved(mark, "apex_s", 2), null);
  assert.equal(moved(mark, "offset_s", 1.1).apex_s, null);
  assert.equal(moved(mark, "offset_s", 1.3).apex_s, 1.2);
});

test("an addition at the very end stays inside the session", () => {
  assert.equal(added("x", 1, 5.9, 6).offset_s, 6);
});

test("undo takes back one change at a time, removals too", () => {
  const coding = new Coding(stored([accepted("a", 1)], 3));
  coding.change("b", accepted("b", 2));
  coding.change("a", null);
  assert.equal(coding.undo(), "a");
  assert.deepEqual([...coding.marks.keys()].sort(), ["a", "b"]);
  assert.equal(coding.undo(), "b");
  assert.equal(coding.undo(), null);
  assert.equal(coding.changed, false);
});

test("what was changed while a save was under way is still a change", () => {
  const coding = new Coding(stored());
  coding.change("a", accepted("a", 1));
  const sent = coding.message();
  coding.change("b", accepted("b", 2));
  coding.saved({ ...sent, revision: 1 });
  assert.equal(coding.changed, true);
  assert.equal(coding.message().revision, 1);
});

test("two pages' changes are merged; the same mark changed twice is a clash that shows theirs", () => {
  const base = [accepted("a", 1), accepted("b", 2), accepted("c", 3), accepted("d", 4)];
  const mine = [base[0], { ...base[1], note: "mine" }, { ...base[2], note: "mine" }];
  const theirs = [{ ...base[0], note: "theirs" }, base[1], { ...base[2], note: "theirs" }, base[3], accepted("e", 5)];
  const { marks, clashes } = merge(base, mine, theirs);
  const notes = Object.fromEntries(marks.map(({ id, note }) => [id, note]));
  assert.deepEqual(notes, { a: "theirs", b: "mine", c: "theirs", e: "" });
  assert.deepEqual(clashes.map(({ id, mine: mark }) => [id, mark.note]), [["c", "mine"]]);
});

test("rows are in order of time and know what others say", () => {
  const ben = { coder: "Ben", marks: [judged(interval("a", 3), null, "rejected", "speech"), added("own-1", 1, 1, 9)] };
  const coding = new Coding(stored([added("own-1", 1, 2, 9), judged(interval("a", 3), null, "accepted")], 1));
  const rows = rowsOf([interval("a", 3)], coding, [ben]);
  assert.deepEqual(rows.map(({ kind }) => kind), ["other", "mine", "machine"]);
  assert.deepEqual(rows[2].others.map(({ coder, mark }) => [coder, mark.reason]), [["Ben", "speech"]]);
});

test("action units are read as coders write them, and written back the same", () => {
  assert.equal(unitsText(parseUnits("au1b, L4C r12")), "1B+L4C+R12");
  assert.deepEqual(parseUnits(" "), []);
  for (const wrong of ["4F", "0", "smile", "123"]) assert.throws(() => parseUnits(wrong), /no action unit/);
});

test("the aligned face is that of the nearest moment", () => {
  assert.deepEqual([-1, 0.4, 0.6, 2.4, 9].map((s) => nearest([0, 1, 2], s)), [0, 0, 1, 2, 2]);
  assert.equal(nearest([], 1), -1);
});
