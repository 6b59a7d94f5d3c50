// What a coder says of a session: marks by id, changed one at a time, undone, merged with another page's. Pure.

export const REASONS = ["blink", "speech", "head", "expression", "nothing"];
const NEW_MARK_S = 0.4;

// A verdict on an interval or on another coder's mark; what the coder had moved or written stays.
export function judged(on, mark, verdict, reason = null) {
  const { id, face, onset_s, apex_s, offset_s } = mark ?? on;
  return { units: [], note: "", ...mark, id, face, onset_s, apex_s, offset_s, verdict, reason };
}

export function added(id, face, atS, endS) {
  const onset_s = Math.min(atS, endS), offset_s = Math.min(onset_s + NEW_MARK_S, endS);
  return { id, face, onset_s, apex_s: null, offset_s, verdict: "added", reason: null, units: [], note: "" };
}

// The mark with one boundary moved, or null if its onset would come after its offset. An apex left outside is unset.
export function moved(mark, which, atS) {
  const next = { ...mark, [which]: atS };
  if (next.onset_s > next.offset_s) return null;
  const apexInside = next.apex_s === null || (next.onset_s <= next.apex_s && next.apex_s <= next.offset_s);
  if (apexInside) return next;
  return which === "apex_s" ? null : { ...next, apex_s: null };
}

export const same = (a, b) => JSON.stringify(inOrder(a)) === JSON.stringify(inOrder(b));

function inOrder(mark) {
  if (!mark) return null;
  const { id, face, onset_s, apex_s, offset_s, verdict, reason, note } = mark;
  return [id, face, onset_s, apex_s, offset_s, verdict, reason, note, mark.units.map((u) => [u.number, u.side, u.intensity])];
}

// Two pages changed the same coding: keep every change of either. Where both changed one mark, `theirs` stands and the
// mark is a clash, for the person to decide.
export function merge(base, mine, theirs) {
  const by = (marks) => new Map(marks.map((mark) => [mark.id, mark]));
  const [was, my, their] = [by(base), by(mine), by(theirs)];
  const marks = new Map(their), clashes = [];
  for (const id of new Set([...was.keys(), ...my.keys()])) {
    if (same(my.get(id), was.get(id)) || same(my.get(id), their.get(id))) continue;
    if (!same(their.get(id), was.get(id))) clashes.push({ id, mine: my.get(id) ?? null });
    else if (my.has(id)) marks.set(id, my.get(id));
    else marks.delete(id);
  }
  return { marks: [...marks.values()], clashes };
}

export class Coding {
  // `stored`: the coding as the server has it.
  constructor(stored) {
    this.stored = stored;
    this.done = stored.done;
    this.marks = new Map(stored.marks.map((mark) => [mark.id, mark]));
    this.past = [];
  }

  get locked() { return this.stored.blind && this.stored.done; }
  get changed() { return this.done !== this.stored.done || !sameAll([...this.marks.values()], this.stored.marks); }
  get canUndo() { return this.past.length > 0; }

  // Set or (null) remove one mark.
  change(id, mark) {
    const before = this.marks.get(id) ?? null;
    if (same(before, mark)) return;
    this.past.push({ id, before });
    this.#put(id, mark);
  }

  // Take the last change back; returns the id of its mark, or null if there is nothing to undo.
  undo() {
    const last = this.past.pop();
    if (!last) return null;
    this.#put(last.id, last.before);
    return last.id;
  }

  // What to send: all marks in order of time, on top of the revision that was read.
  message() {
    const marks = [...this.marks.values()].sort((a, b) => a.onset_s - b.onset_s);
    return { ...this.stored, marks, done: this.done };
  }

  // The server stored `sent` as `stored`; what was changed meanwhile stays a change.
  saved(stored) { this.stored = stored; }

  // Somebody else stored `theirs`: take it in under what was changed here. Returns the clashes.
  takeIn(theirs) {
    const { marks, clashes } = merge(this.stored.marks, [...this.marks.values()], theirs.marks);
    this.marks = new Map(marks.map((mark) => [mark.id, mark]));
    if (this.done === this.stored.done) this.done = theirs.done;
    this.stored = theirs;
    return clashes;
  }

  #put(id, mark) {
    if (mark === null) this.marks.delete(id);
    else this.marks.set(id, mark);
  }
}

function sameAll(mine, theirs) {
  const by = new Map(theirs.map((mark) => [mark.id, mark]));
  return mine.length === theirs.length && mine.every((mark) => same(mark, by.get(mark.id)));
}

// All that is listed, in order of time: the machine's intervals, own additions, and what other coders added.
export function rowsOf(intervals, coding, others) {
  const known = new Set(intervals.map(({ id }) => id));
  const rows = new Map(intervals.map((interval) => [interval.id, { id: interval.id, kind: "machine", interval, mark: null, others: [] }]));
  for (const mark of coding?.marks.values() ?? []) {
    if (rows.has(mark.id)) rows.get(mark.id).mark = mark;
    else rows.set(mark.id, { id: mark.id, kind: "mine", interval: null, mark, others: [] });
  }
  for (const { coder, marks } of others) {
    for (const mark of marks) {
      if (known.has(mark.id)) rows.get(mark.id).others.push({ coder, mark });
      else rows.set(`${coder}/${mark.id}`, { id: `${coder}/${mark.id}`, kind: "other", interval: mark, mark: null, others: [{ coder, mark }] });
    }
  }
  const start = (row) => (row.mark ?? row.interval).onset_s;
  return [...rows.values()].sort((a, b) => start(a) - start(b));
}
