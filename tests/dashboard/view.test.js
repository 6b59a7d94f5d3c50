// Which stretch the traces show: live, or where the person scrolled to. Keys are real events on a real target.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { View } from "../../stream/server/dashboard/view.js";

let nowS, canvas, view;

beforeEach(() => {
  nowS = 1000;
  canvas = new EventTarget();
  view = new View({ startS: 0, now: () => nowS }, canvas, {}, {});
});

const press = (key) => {
  const event = Object.assign(new Event("keydown", { cancelable: true }), { key });
  canvas.dispatchEvent(event);
  return event.defaultPrevented;
};

test("live follows the clock", () => {
  const before = view.toS;
  nowS += 5;
  assert.ok(Math.abs(view.toS - before - 5) < 1e-9);
  assert.equal(view.toS - view.fromS, view.spanS);
});

test("scrolling back holds the view still; scrolling to the newest end is live again", () => {
  view.move(-100);
  const held = view.toS;
  nowS += 50;
  assert.equal(view.toS, held);
  view.move(1e6);
  assert.equal(view.heldS, null);
});

test("nothing lies before the beginning of the session", () => {
  view.move(-1e6);
  assert.equal(view.fromS, 0);
});

test("a moment is put into the middle, as far as there is something on either side", () => {
  view.centre(500);
  assert.ok(Math.abs((view.fromS + view.toS) / 2 - 500) < 1e-9);
  view.centre(3);
  assert.equal(view.fromS, 0);
  view.centre(nowS);
  assert.equal(view.heldS, null);
});

test("a span is between some seconds and ten minutes", () => {
  for (let k = 0; k < 20; k++) view.zoom(0.5);
  assert.equal(view.spanS, 7.5);
  for (let k = 0; k < 20; k++) view.zoom(2);
  assert.equal(view.spanS, 600);
});

test("arrows scroll by a quarter, pages by the whole, Home and End to the ends", () => {
  const liveS = view.toS;
  assert.ok(press("ArrowLeft"));
  assert.ok(Math.abs(liveS - view.toS - view.spanS / 4) < 1e-9);
  press("PageUp");
  assert.ok(Math.abs(liveS - view.toS - 1.25 * view.spanS) < 1e-9);
  press("Home");
  assert.equal(view.fromS, 0);
  press("End");
  assert.equal(view.heldS, null);
  assert.ok(!press("a"), "a key that means nothing here is the page's");
});
