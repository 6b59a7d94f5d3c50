// One interval up close: its three crops, the replay, the facts.

import { Replay, decode, nearest, paint } from "./replay.js";
import { clock, intervalState, plain, seconds, suppressedInWords } from "./words.js";

const MOMENTS = [["onset", "onset_s"], ["apex", "apex_s"], ["offset", "offset_s"]];

export class Detail {
  constructor(session, dialog) {
    Object.assign(this, { session, dialog });
    this.interval = null;
    this.$ = (id) => dialog.querySelector(`#${id}`);
    this.replay = new Replay(this.$("replay"), (timeS) => {
      this.$("replay-time").textContent = `${Math.round(1000 * (timeS - this.interval.onset_s))} ms from the onset`;
    });
    dialog.addEventListener("close", () => this.replay.stop());
    dialog.addEventListener("keydown", (event) => {
      if (event.target.matches("input, select")) return;
      if (event.key === "ArrowLeft") this.step(-1);
      if (event.key === "ArrowRight") this.step(1);
    });
    this.$("previous").onclick = () => this.step(-1);
    this.$("next").onclick = () => this.step(1);
    this.$("play").onclick = () => {
      this.replay.playing = !this.replay.playing;
      this.$("play").textContent = this.replay.playing ? "Pause" : "Play";
    };
    this.$("speed").onchange = () => { this.replay.speed = Number(this.$("speed").value); };
    this.$("magnify").oninput = () => {
      this.replay.magnify = Number(this.$("magnify").value);
      this.$("magnify-value").textContent = `×${this.replay.magnify}`;
    };
  }

  open(interval) {
    this.interval = interval;
    this.shown = null;
    this.refresh();
    if (!this.dialog.open) this.dialog.showModal();
    // its last crops may still be on their way
    setTimeout(() => this.dialog.open && this.#images(), 800);
  }

  step(by) {
    const { session } = this;
    const at = (interval) => session.wall(interval.epoch, interval.onset_s);
    const all = [...session.intervals.values()].sort((a, b) => at(a) - at(b));
    const next = all[all.indexOf(this.interval) + by];
    if (next) this.open(next);
  }

  refresh() {
    if (!this.interval || this.shown === this.interval.seq + this.interval.state) return;
    this.shown = this.interval.seq + this.interval.state;
    const { interval, session } = this;
    const retracted = interval.state === "retracted";
    this.$("detail-title").textContent = `Face ${interval.face}, ${clock(session.wall(interval.epoch, interval.onset_s))}`;
    this.$("detail-state").textContent = intervalState(interval) + (retracted ? `: ${suppressedInWords(interval.suppressed)}` : "");
    for (const path of this.$("regions").querySelectorAll(".region")) {
      path.style.setProperty("--share", interval.regions[path.dataset.region] ?? 0);
    }
    this.$("facts").replaceChildren(...this.#facts().map(([name, value]) => {
      const row = document.createElement("div");
      row.append(Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value }));
      return row;
    }));
    this.#images();
  }

  #facts() {
    const { interval } = this;
    const length = interval.offset_s === null ? null : interval.offset_s - interval.onset_s;
    return [
      ["Onset (source clock)", seconds(interval.onset_s, 3)], ["Apex", seconds(interval.apex_s, 3)], ["Offset", seconds(interval.offset_s, 3)],
      ["Length", length === null ? "–" : `${Math.round(1000 * length)} ms`],
      ["Score", interval.score.toFixed(2)], ["Told after capture", `${Math.round(interval.latency_ms)} ms`],
      ...Object.entries(interval.regions).map(([name, share]) => [`In the ${name}`, `${Math.round(100 * share)} %`]),
      ...Object.entries(interval.quality).map(([name, value]) => [qualityName(name), String(value)]),
    ];
  }

  async #images() {
    const { interval } = this;
    if (interval.frames.length === this.drawn?.count && this.drawn.interval === interval) return;
    this.drawn = { interval, count: interval.frames.length };
    this.replay.stop();
    const images = await decode(interval.frames);
    if (interval !== this.interval || !this.dialog.open) return;
    this.$("detail-body").dataset.pictures = images.length >= 2;
    this.$("no-images").hidden = images.length >= 2;
    this.$("no-images").textContent = interval.state === "open" ? "The pictures come when the interval has settled."
      : "No pictures: the faces were not shown in this page at that time. They are kept in this page's memory only.";
    if (images.length < 2) return;
    for (const [name, field] of MOMENTS) {
      const timeS = interval[field] ?? interval.onset_s;
      const image = nearest(images, timeS);
      paint(this.$(`crop-${name}`), image.bitmap);
      const caption = this.$(`crop-${name}`).nextElementSibling.querySelector("span");
      caption.textContent = name === "onset" ? "0 ms" : `+${Math.round(1000 * (timeS - interval.onset_s))} ms`;
    }
    this.replay.load(images, interval);
  }
}

const qualityName = (name) => ({ fps: "Camera rate (fps)", face_px: "Face width (px)", yaw_deg: "Turned (°)", pitch_deg: "Tilted (°)", blur: "Blur (0–1)", light: "Brightness (0–255)" }[name] ?? plain(name));
