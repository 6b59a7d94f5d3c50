// One session on the page: its parts, what is selected, what keys and buttons do.

import { Coding, added, judged, moved, rowsOf } from "./coding.js";
import { Player } from "./player.js";
import { Rows } from "./rows.js";
import { Saver } from "./saver.js";
import { Timeline } from "./timeline.js";
import { parseUnits } from "./units.js";

const $ = (id) => document.getElementById(id);
const REASON_KEYS = { b: "blink", s: "speech", h: "head", e: "expression", n: "nothing" };

export class SessionPage {
  // notice(text, choices = []): tells the person; reload(): reads the session anew
  constructor(api, { notice, reload }) {
    Object.assign(this, { api, notice, reload });
    this.player = new Player(api, $("video"), $("face"), {
      moved: () => { this.stale = true; },
      failed: (text) => { $("no-video").textContent = text; $("no-video").hidden = !text; $("video").hidden = Boolean(text); },
      noFace: (text) => { $("no-aligned").textContent = text; $("no-aligned").hidden = !text; },
    });
    this.timeline = new Timeline(api, $("trace"), $("overview"), {
      seek: (sourceS) => this.player.seek(sourceS), opened: () => { this.stale = true; },
    });
    this.rows = new Rows($("rows"), $("editor"), (id) => this.select(id));
    this.#wire();
    requestAnimationFrame(() => this.#draw());
  }

  // `blindAsked`: the coder wants not to see the machine's intervals.
  open(session, blindAsked) {
    this.session = session;
    this.coding = session.coding && new Coding(session.coding);
    this.saver = this.coding && new Saver(this.api, this.coding, {
      state: (name, text) => this.#saved(name, text),
      merged: (clashes) => this.#merged(clashes),
      refused: (text) => this.notice(`${text} — your last change is only on this page.`),
    });
    this.selected = this.rejecting = null;
    this.timeline.open(session);
    this.player.open(session);
    this.#setFace(session.faces[0] ?? 1);
    this.#head(blindAsked);
    this.refresh();
  }

  close() {
    if (!this.session) return;
    if (this.saver) this.saver.closed = true;
    this.player.close();
    this.session = this.saver = null;
  }

  get unsaved() { return Boolean(this.coding?.changed) && !this.coding.locked; }

  #head(blindAsked) {
    const { session, coding } = this;
    $("name").textContent = session.name;
    const dropped = Object.values(session.dropped).reduce((sum, n) => sum + n, 0);
    $("about").textContent = [
      session.source, session.complete ? "" : "not finished by the program", dropped ? `${dropped} frames lost` : "", session.consent,
    ].filter(Boolean).join(" · ");
    $("coding-as").textContent = coding ? `${coding.stored.coder}${coding.stored.blind ? ", blind" : ""}` : "Only looking";
    $("saved").hidden = true;
    $("faces").replaceChildren(...session.faces.map((face) => new Option(face, face)));
    $("faces-label").hidden = session.faces.length < 2;
    for (const id of ["undo", "done", "add"]) $(id).hidden = !coding || coding.locked;
    $("speed").value = "1";
    this.player.setSpeed(1);
    if (blindAsked && coding && !coding.stored.blind) {
      this.notice(`${coding.stored.coder} has coded this session with the machine's intervals in view, so it can't be coded blind under that name.`);
    }
    if (session.trouble.length) this.notice(session.trouble.join(" "));
  }

  #setFace(face) {
    this.face = face;
    $("faces").value = String(face);
    this.timeline.setFace(face);
    this.player.setFace(face);
  }

  refresh() {
    const { session, coding } = this;
    this.list = rowsOf(session.intervals, coding, session.others);
    if (!this.list.some(({ id }) => id === this.selected)) this.selected = null;
    this.rows.show(this.list, { selected: this.selected, startS: session.starts_s, coding, hidden: session.hidden, rejecting: this.rejecting });
    $("undo").disabled = !coding?.canUndo;
    $("done").firstElementChild.textContent = coding?.done ? "Reopen" : "Done";
    this.stale = true;
  }

  select(id) {
    this.selected = id;
    this.rejecting = null;
    const at = this.#current();
    if (at.face !== this.face) this.#setFace(at.face);
    this.player.pause();
    if (this.player.loop) this.player.loopOver(at.onset_s, at.offset_s);
    this.player.seek(at.onset_s);
    this.refresh();
  }

  get #row() { return this.list?.find(({ id }) => id === this.selected) ?? null; }
  #current() { return this.#row?.mark ?? this.#row?.interval ?? null; }

  // --- coding ---------------------------------------------------------------------------------------------------------

  #mayCode() {
    if (!this.coding) this.notice("Give your name on the list of sessions to code.");
    else if (this.coding.locked) this.notice("A blind coding that is done can't be changed; code under another name.");
    return this.coding && !this.coding.locked;
  }

  #change(id, mark) {
    this.coding.change(id, mark);
    this.rejecting = null;
    this.refresh();
    this.saver.save();
  }

  // `edit` makes the changed mark of the selected row from its present one (a verdict is given first if there is none).
  #edit(edit) {
    const row = this.#row;
    if (!row) return this.notice("Select an interval first (↑ ↓).");
    if (!this.#mayCode()) return;
    if (row.kind === "other") return this.notice(`That is ${row.others[0].coder}'s interval: press A to add it as yours.`);
    const mark = edit(row.mark ?? judged(row.interval, null, "accepted"), row);
    if (mark) this.#change(row.id, mark);
  }

  #accept() {
    const row = this.#row;
    if (row?.kind === "other" && this.#mayCode()) {
      const { onset_s, apex_s, offset_s, face } = row.interval;
      return this.#add({ ...added(newId(), face, onset_s, offset_s), apex_s, offset_s });
    }
    this.#edit((mark) => (row.kind === "mine" ? null : judged(mark, mark, "accepted")));
  }

  #reject(reason) {
    this.#edit((mark, row) => {
      if (row.kind !== "mine") return judged(mark, mark, "rejected", reason);
      this.notice("You added this interval yourself: X removes it.");
      return null;
    });
  }

  #add(mark) {
    if (!this.#mayCode()) return;
    this.selected = mark.id;
    this.#change(mark.id, mark);
  }

  #move(which) {
    const atS = Math.round(this.player.nowS * 1e4) / 1e4;
    this.#edit((mark) => {
      const next = moved(mark, which, atS);
      if (!next) this.notice("An interval's onset comes first, then its apex, then its offset: this moment does not fit.");
      return next;
    });
  }

  #setUnits() {
    $("units-wrong").hidden = true;
    try {
      const units = parseUnits($("units").value);
      if (units.length || this.#row?.mark) this.#edit((mark) => ({ ...mark, units }));
    } catch (error) {
      $("units-wrong").textContent = error.message;
      $("units-wrong").hidden = false;
    }
  }

  #undo() {
    if (!this.#mayCode()) return;
    const id = this.coding.undo();
    if (id === null) return;
    this.selected = id;
    this.refresh();
    this.saver.save();
  }

  async #finish() {
    if (!this.#mayCode()) return;
    if (this.coding.stored.blind) {
      $("finish").returnValue = "";
      $("finish").showModal();
      await new Promise((resolve) => { $("finish").addEventListener("close", resolve, { once: true }); });
      if ($("finish").returnValue !== "done") return;
    }
    this.coding.done = !this.coding.done;
    this.refresh();
    const { coding } = this;
    await this.saver.save();
    if (coding === this.coding && coding.locked) this.reload();
  }

  #saved(name, text) {
    $("saved").hidden = false;
    $("saved").dataset.state = name;
    $("saved").textContent = text;
  }

  #merged(clashes) {
    this.refresh();
    if (!clashes.length) return this.notice("This coding was also changed in another page; both pages' changes are kept.");
    const mine = () => {
      for (const { id, mine: mark } of clashes) this.coding.change(id, mark);
      this.refresh();
      this.saver.save();
    };
    this.notice(`Another page changed the same ${clashes.length === 1 ? "interval" : `${clashes.length} intervals`}. Its version is shown.`,
      [["Take mine instead", mine]]);
  }

  // --- keys and buttons -----------------------------------------------------------------------------------------------

  #wire() {
    const { player } = this;
    this.actions = {
      " ": () => player.toggle(), "[": () => this.#speed(1), "]": () => this.#speed(-1),
      ArrowLeft: (event) => (event.shiftKey ? player.seek(player.nowS - 1) : player.step(-1)),
      ArrowRight: (event) => (event.shiftKey ? player.seek(player.nowS + 1) : player.step(1)),
      ArrowUp: () => this.#next(-1), ArrowDown: () => this.#next(1),
      l: () => this.#toggleLoop(), "+": () => this.#zoom(0.5), "-": () => this.#zoom(2),
      a: () => this.#accept(), r: () => this.#edit(() => { this.rejecting = this.selected; this.refresh(); return null; }),
      n: () => this.#add(added(newId(), this.face, Math.round(player.nowS * 1e4) / 1e4, this.session.ends_s)),
      i: () => this.#move("onset_s"), p: () => this.#move("apex_s"), o: () => this.#move("offset_s"),
      u: () => this.#focus("units"), t: () => this.#focus("note"), z: () => this.#undo(), d: () => this.#finish(),
      x: () => this.#mayCode() && this.#row?.mark && this.#change(this.#row.id, null),
      "?": () => $("keys").showModal(), Escape: () => { this.rejecting = null; this.refresh(); },
    };
    const buttons = { play: " ", back: "ArrowLeft", forward: "ArrowRight", loop: "l", undo: "z", done: "d", help: "?", add: "n" };
    for (const [id, key] of Object.entries(buttons)) $(id).onclick = (event) => this.actions[key](event);
    const verdicts = { accept: "a", reject: "r", clear: "x" };
    for (const button of document.querySelectorAll("[data-do]")) button.onclick = () => this.actions[verdicts[button.dataset.do]]();
    for (const button of document.querySelectorAll("[data-reason]")) button.onclick = () => this.#reject(button.dataset.reason);
    $("faces").onchange = () => { this.#setFace(Number($("faces").value)); this.refresh(); };
    $("speed").onchange = () => player.setSpeed(Number($("speed").value));
    $("units").onchange = () => this.#setUnits();
    $("note").onchange = () => this.#edit((mark) => ({ ...mark, note: $("note").value.trim() }));
    $("video").onclick = () => player.toggle();
    document.addEventListener("keydown", (event) => this.#key(event));
    window.addEventListener("beforeunload", (event) => { if (this.unsaved) event.preventDefault(); });
  }

  #key(event) {
    if (!this.session || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.matches("input, textarea")) {
      if (["Enter", "Escape"].includes(event.key)) event.target.blur(); // with two fields, Enter submits no form
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.ctrlKey && key !== "z") return;
    if (event.target.matches("select") && key.startsWith("Arrow")) return;
    if (event.target.matches("button, a") && key === " ") return; // it presses the button
    const reason = this.rejecting !== null ? REASON_KEYS[key] : undefined;
    const action = reason ? () => this.#reject(reason) : this.actions[key === "=" ? "+" : key];
    if (!action || (event.repeat && !key.startsWith("Arrow"))) return;
    event.preventDefault();
    action(event);
  }

  #focus(id) {
    if (this.#row && this.#mayCode()) { $(id).focus(); $(id).select(); }
  }

  #next(by) {
    if (!this.list.length) return;
    const at = this.list.findIndex(({ id }) => id === this.selected);
    const next = at < 0 ? (by > 0 ? 0 : this.list.length - 1) : Math.min(Math.max(at + by, 0), this.list.length - 1);
    this.select(this.list[next].id);
  }

  #toggleLoop() {
    const at = this.#current();
    if (this.player.loop) this.player.loop = null;
    else if (at) { this.player.loopOver(at.onset_s, at.offset_s); this.player.play(); }
    else this.notice("Select an interval to loop first (↑ ↓).");
    this.stale = true;
  }

  #speed(by) {
    const select = $("speed");
    select.selectedIndex = Math.min(Math.max(select.selectedIndex + by, 0), select.length - 1);
    select.onchange();
  }

  #zoom(by) {
    this.timeline.zoom(by);
    this.stale = true;
  }

  #draw() {
    requestAnimationFrame(() => this.#draw());
    if (!this.session) return;
    this.player.tick();
    const width = $("trace").clientWidth;
    if (!this.stale && width === this.drawnWidth) return;
    this.stale = false;
    this.drawnWidth = width;
    const nowS = this.player.nowS;
    this.timeline.draw(nowS, this.list.map((row) => ({ ...(row.mark ?? row.interval), verdict: row.mark?.verdict ?? (row.kind === "other" ? "added" : null), selected: row.id === this.selected }))
      .filter(({ face }) => face === this.face));
    $("time").textContent = `${(nowS - this.session.starts_s).toFixed(3)} s`;
    $("play").textContent = this.player.playing ? "Pause" : "Play";
    $("loop").setAttribute("aria-pressed", String(this.player.loop !== null));
  }
}

const newId = () => `own-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
