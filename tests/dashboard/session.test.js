// What the page makes of the messages: time is scripted, messages are as the protocol has them.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { Session } from "../../stream/server/dashboard/session.js";

const OLD = "01J0000000000000000000000A", NEW = "01J0000000000000000000000B";
let nowS, session;

beforeEach(() => {
  nowS = 1000;
  session = new Session(() => nowS);
});

const hello = (epoch = OLD) => ({ type: "hello", epoch });
const event = (seq, phase, more = {}) => ({
  type: "event", epoch: OLD, seq, phase, id: "one", face: 1, onset_s: 10, apex_s: 10.2, offset_s: 10.4,
  time: new Date(1_000_000).toISOString(), suppressed: phase === "retract" ? "blink" : null, ...more,
});
const take = (...messages) => messages.map((message) => session.take(message));
const state = (id = "one") => session.intervals.get(id).state;

test("a message of a kind that the page does not know changes nothing", () => {
  assert.deepEqual(take({ type: "weather" }, { type: "toString" }, { type: "constructor" }), [null, null, null]);
});

test("an interval is open until its end settles it or a retract takes it back", () => {
  take(hello(), event(1, "start"), event(2, "update"));
  assert.equal(state(), "open");
  take(event(3, "end"));
  assert.equal(state(), "settled");
  take(event(4, "start", { id: "two" }), event(5, "retract", { id: "two" }));
  assert.equal(state("two"), "retracted");
  assert.equal(session.intervals.size, 2);
});

test("an event that comes twice, as after a reconnect, is counted and not taken again", () => {
  take(hello(), event(1, "start"), event(2, "end"));
  assert.deepEqual(take(event(1, "start"), event(2, "end")), [null, null]);
  assert.equal(state(), "settled");
  assert.deepEqual(session.counts, { events: 2, duplicates: 2 });
});

test("after a restart numbering begins anew, and what the old program left open is never settled", () => {
  take(hello(), event(7, "start"));
  assert.equal(session.notices.length, 0);
  take(hello(NEW));
  assert.equal(state(), "unsettled");
  assert.equal(session.notices.length, 1);
  assert.ok(session.face(1).gone);
  assert.equal(take(event(1, "start", { epoch: NEW, id: "new" }))[0], "event");
  assert.equal(state("new"), "open");
  assert.equal(take(event(8, "end", { id: "late" }))[0], "event", "the old program's last words may come behind the new one's");
});

test("the same program after a lost connection is no restart", () => {
  take(hello(), event(1, "start"), hello());
  assert.equal(state(), "open");
  assert.equal(session.notices.length, 0);
});

test("a face that the status no longer names is gone; it comes back with its history", () => {
  const faces = [1, 2].map((face) => ({ face, state: "watching", reason: null }));
  take(hello(), { type: "status", faces });
  assert.deepEqual([...session.faces.values()].map((face) => face.gone), [false, false]);
  take({ type: "status", faces: faces.slice(1) });
  assert.deepEqual([session.face(1).gone, session.face(2).gone], [true, false]);
  take({ type: "status", faces: [{ face: 1, state: "cannot_spot", reason: "blurred" }] });
  assert.deepEqual([session.face(1).gone, session.face(1).state, session.face(1).reason], [false, "cannot_spot", "blurred"]);
});

test("a gap says which events are missing", () => {
  take(hello(), { type: "gap", from: 3, to: 3 }, { type: "gap", from: 3, to: 9 }, { type: "gap", from: 1, to: null });
  assert.deepEqual(session.notices.map(({ text }) => text.split(" could")[0]), ["Event 3", "Events 3 to 9", "Some events"]);
});

const score = (timeS, atS) => {
  nowS = atS;
  take({ type: "scores", face: 1, time_s: timeS, score: 0.1, threshold: 0.5 });
};

test("the source's clock lies on the wall clock by its promptest telemetry", () => {
  take(hello());
  score(10, 1010.5);
  score(11, 1011.1);
  score(12, 1012.3);
  assert.ok(Math.abs(session.wall(OLD, 20) - 1020.1) < 1e-6);
});

test("a source that waited lies later on the wall clock from then on, and not before", () => {
  take(hello());
  score(10, 1010.1);
  score(11, 1016.1);
  assert.ok(Math.abs(session.wall(OLD, 10.5) - 1010.6) < 1e-6);
  assert.ok(Math.abs(session.wall(OLD, 12) - 1017.1) < 1e-6);
});

test("telemetry that came late in a bunch does not leave a jump of the clock behind", () => {
  take(hello());
  score(10, 1010.1);
  score(11, 1012.0);
  score(12, 1012.05);
  for (const timeS of [10.5, 11.5]) assert.ok(Math.abs(session.wall(OLD, timeS) - timeS - 1000.05) < 1e-6);
});

test("an event from before the page was opened is placed by its own wall clock, and the session begins there", () => {
  nowS = 2000;
  session = new Session(() => nowS);
  take(hello(), event(1, "end"));
  assert.ok(Math.abs(session.wall(OLD, 10.4) - 999.6) < 1e-6);
  assert.ok(session.startS < 1000);
});

test("previews of the last seconds are kept; a source that begins anew drops those before", () => {
  take(hello());
  const preview = (time_s) => take({ type: "preview", face: 1, time_s, jpeg: "x" });
  for (let timeS = 0; timeS < 30; timeS += 0.5) preview(timeS);
  const { previews } = session.face(1);
  assert.ok(previews[0].timeS >= 29.5 - 8 && previews.at(-1).timeS === 29.5);
  preview(1);
  assert.deepEqual(session.face(1).previews.map(({ timeS }) => timeS), [1]);
});

test("a settled interval keeps the crops around it once the last ones have come", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    take(hello());
    for (let timeS = 9; timeS < 12; timeS += 0.1) take({ type: "preview", face: 1, time_s: timeS, jpeg: "x" });
    take(event(1, "end"));
    mock.timers.tick(2000);
    const times = session.intervals.get("one").frames.map(({ timeS }) => timeS);
    assert.ok(times.length > 5);
    assert.ok(Math.min(...times) >= 9.6 && Math.min(...times) < 10 && Math.max(...times) <= 10.8 && Math.max(...times) > 10.4);
  } finally {
    mock.timers.reset();
  }
});

test("marks are kept where they were set until they are taken away", () => {
  const first = session.mark();
  nowS = 1007;
  const second = session.mark();
  assert.deepEqual(session.marks.map(({ wallS }) => wallS), [1000, 1007]);
  assert.notEqual(first.key, second.key);
  session.unmark(first);
  assert.deepEqual(session.marks, [second]);
});
