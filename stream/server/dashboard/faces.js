// One card per face: preview, state in words, score trace with its intervals.

import { decode } from "./replay.js";
import { drawTrace } from "./trace.js";
import { clock, stateInWords, suppressedInWords, topRegion } from "./words.js";

const REGION_SHOWN_S = 4;
const GONE_SHOWN_S = 60;

export class FaceCards {
  constructor(session, view, container, onOpen) {
    Object.assign(this, { session, view, container, onOpen });
    this.preview = true;
    this.cards = new Map();
  }

  draw() {
    const nowS = this.session.now();
    for (const face of [...this.session.faces.values()].sort((a, b) => a.number - b.number)) {
      face.goneS = face.gone ? face.goneS ?? nowS : null;
      // a face that left long ago stays in the list and the timeline, and comes back when scrolled to
      const old = face.gone && nowS - face.goneS > GONE_SHOWN_S && this.view.heldS === null;
      const card = this.cards.get(face.number) ?? this.#make(face);
      card.root.hidden = old;
      if (!old) this.#update(card, face);
    }
  }

  #make(face) {
    const root = document.createElement("article");
    root.className = "face";
    root.setAttribute("aria-label", `Face ${face.number}`);
    root.innerHTML = `<div class="face-head"><h2></h2><span class="face-state"></span><span class="face-region"></span></div>
      <div class="face-picture"><canvas width="128" height="128" role="img"></canvas><div class="moved"></div><p></p></div>
      <canvas class="trace" role="img"></canvas>`;
    const card = { root, trace: root.querySelector(".trace"), picture: root.querySelector(".face-picture"), shown: null };
    root.querySelector("h2").textContent = `Face ${face.number}`;
    card.trace.setAttribute("aria-label", `Score of face ${face.number} over time; the list holds the same movements`);
    card.picture.querySelector("canvas").setAttribute("aria-label", `Face ${face.number}, live`);
    this.#drag(card.trace, face);
    this.container.append(root);
    this.cards.set(face.number, card);
    return card;
  }

  #update(card, face) {
    card.root.dataset.gone = face.gone;
    setText(card.root.querySelector(".face-state"), face.gone ? "out of view" : stateInWords(face), face.gone ? "gone" : face.state);
    this.#showRegion(card, face);
    this.#showPicture(card, face);
    const { session, view } = this;
    const intervals = [];
    for (const interval of session.intervals.values()) {
      if (interval.face !== face.number) continue;
      const shape = this.#shape(interval);
      if (shape.endS > view.fromS - 1 && shape.startS < view.toS + 1) intervals.push(shape);
    }
    drawTrace(card.trace, {
      scores: face.scores, wallOf: ({ epoch, timeS }) => session.wall(epoch, timeS), intervals, marks: session.marks, fromS: view.fromS, toS: view.toS,
      threshold: face.scores.at(-1)?.threshold ?? session.status?.threshold ?? null, labelAt: clock,
    });
  }

  #shape(interval) {
    const wall = (timeS) => this.session.wall(interval.epoch, timeS);
    const open = interval.state === "open" && interval.offset_s === null;
    return {
      interval, state: interval.state, startS: wall(interval.onset_s), apexS: interval.apex_s === null ? null : wall(interval.apex_s),
      endS: open ? Math.min(this.session.now(), wall(interval.onset_s) + 0.7) : wall(this.session.endOf(interval)),
      label: interval.state === "retracted" ? suppressedInWords(interval.suppressed) : "",
    };
  }

  #showRegion(card, face) {
    const recent = face.last && this.session.now() - this.session.wall(face.last.epoch, this.session.endOf(face.last)) < REGION_SHOWN_S;
    const region = recent && face.last.state !== "retracted" ? topRegion(face.last.regions) : null;
    if (region) Object.assign(card.picture.dataset, { region: region.name, state: face.last.state });
    else delete card.picture.dataset.region;
    const last = face.last && topRegion(face.last.regions);
    setText(card.root.querySelector(".face-region"), region ? `moving: ${region.words}` : last ? `last movement: ${last.words}` : "");
  }

  #showPicture(card, face) {
    const newest = face.previews.at(-1);
    const words = card.picture.querySelector("p");
    setText(words, !this.preview ? "hidden; press V to show it" : newest ? "" : "no picture yet");
    card.picture.querySelector("canvas").hidden = !this.preview || !newest;
    if (!this.preview || !newest || card.decoding || card.shown === newest) return;
    card.decoding = true; // one at a time: a slow machine shows fewer, never older ones
    decode([newest]).then(([image]) => {
      card.decoding = false;
      card.shown = newest;
      if (!image) return;
      const canvas = card.picture.querySelector("canvas");
      if (canvas.width !== image.bitmap.width) canvas.width = canvas.height = image.bitmap.width;
      canvas.getContext("2d").drawImage(image.bitmap, 0, 0);
      image.bitmap.close();
    });
  }

  // Dragging scrolls; a click on an interval opens it.
  #drag(canvas, face) {
    canvas.addEventListener("pointerdown", (down) => {
      canvas.setPointerCapture(down.pointerId);
      canvas.classList.add("dragging");
      const secondsPerPx = this.view.spanS / canvas.clientWidth;
      let atX = down.clientX;
      canvas.onpointermove = (move) => {
        this.view.move((atX - move.clientX) * secondsPerPx);
        atX = move.clientX;
      };
      canvas.onpointerup = (up) => {
        canvas.onpointermove = canvas.onpointerup = null;
        canvas.classList.remove("dragging");
        if (Math.abs(up.clientX - down.clientX) < 4) this.#open(canvas, face, up);
      };
    });
  }

  #open(canvas, face, { clientX }) {
    const { left, width } = canvas.getBoundingClientRect();
    const at = this.view.fromS + ((clientX - left - 34) / (width - 48)) * this.view.spanS;
    const slackS = (6 / width) * this.view.spanS;
    const hit = [...this.session.intervals.values()].filter((interval) => interval.face === face.number)
      .map((interval) => this.#shape(interval)).findLast(({ startS, endS }) => at > startS - slackS && at < endS + slackS);
    if (hit) this.onOpen(hit.interval);
  }
}

function setText(element, text, state) {
  if (element.textContent !== text) element.textContent = text;
  if (state !== undefined && element.dataset.state !== state) element.dataset.state = state;
}
