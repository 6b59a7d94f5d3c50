// The machine's words as the person at the screen reads them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { duration, intervalInWords, plain, seconds, stateInWords, suppressedInWords, topRegion } from "../../stream/server/dashboard/words.js";

test("a face that is watched needs no reason; one that cannot be says why", () => {
  assert.equal(stateInWords({ state: "watching", reason: null }), "watched");
  assert.equal(stateInWords({ state: "cannot_spot", reason: "too_dark" }), "not watched: it is too dark");
});

test("a word that this page does not know is shown without its underscores", () => {
  assert.equal(stateInWords({ state: "half_asleep", reason: "no_coffee" }), "half asleep: no coffee");
  assert.equal(suppressedInWords("new_reason"), "new reason");
  assert.equal(plain("a_b_c"), "a b c");
});

test("an interval that was taken back says why, also where a fault of the picture ended it", () => {
  assert.equal(suppressedInWords("blink"), "a blink");
  assert.equal(suppressedInWords("stalled"), "no pictures arrive");
  assert.equal(suppressedInWords(null), "no reason given");
  assert.equal(suppressedInWords(undefined), "no reason given");
});

test("an interval says which part of the face moved and for how long, or why it does not count", () => {
  const interval = { regions: { brows: 0.8, mouth: 0.2 }, onset_s: 2, offset_s: 2.404, suppressed: "blink" };
  const inWords = (change) => intervalInWords({ ...interval, ...change });
  assert.equal(inWords({ state: "settled" }), "Brow movement, 0.40 s");
  assert.equal(inWords({ state: "open", offset_s: null }), "Brow movement, going on");
  assert.equal(inWords({ state: "unsettled", offset_s: null }), "Brow movement, end unknown");
  assert.equal(inWords({ state: "retracted" }), "Not counted: a blink");
  assert.equal(inWords({ state: "settled", regions: { chin_tip: 1 } }), "Movement, chin tip, 0.40 s");
  assert.equal(inWords({ state: "settled", regions: {} }), "Movement, 0.40 s");
});

test("the region with the largest share is named, none where nothing moves", () => {
  assert.deepEqual(topRegion({ brows: 0.2, mouth: 0.7, eyes: 0.1 }), { name: "mouth", share: 0.7, words: "mouth" });
  assert.equal(topRegion({ brows: 0, mouth: 0 }), null);
  assert.equal(topRegion({}), null);
  assert.equal(topRegion(null), null);
});

test("lengths are minutes and seconds, with hours only where there are any", () => {
  assert.deepEqual([0, 9.4, 59.6, 61, 3599, 3600, 36610].map(duration), ["0:00", "0:09", "1:00", "1:01", "59:59", "1:00:00", "10:10:10"]);
  assert.equal(duration(-3), "0:00");
});

test("a time that is not known is a dash, 0 is a time", () => {
  assert.equal(seconds(0), "0.00 s");
  assert.equal(seconds(1.23456, 3), "1.235 s");
  assert.equal(seconds(null), "–");
  assert.equal(seconds(undefined), "–");
});
