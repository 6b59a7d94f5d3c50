// One interval up close: its three crops, the replay, the facts.

import { Replay, decode, nearest, paint } from "./replay.js";
import { clock, intervalInWords, plain, seconds } from "./words.js";

const MOMENTS = [["onset", "onset_s"], ["apex", "apex_s"], ["offset", "offset_s"]];

export class Detail {
  constructor(session, dialog) {
    Object.assign(this, { session, dialog });
    this.interval = null;
    this.$ = (id) => dialog.querySelector(`#${id}`);
    this.replay = new Replay(this.$("replay"), (timeS) => {
      const ms = Math.round(1000 * (timeS - this.interval.onset_s));
      this.$("replay-time").textContent = `${Math.abs(ms)} ms ${ms < 0 ? "before" : "after"} the onset`;
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
    this.$("detail-title").textContent = intervalInWords(interval);
    this.$("detail-state").textContent = `Face ${interval.face}, ${clock(session.wall(interval.epoch, interval.onset_s))}`;
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
      ["Score", interval.score.toFixed(2)], ["Delay", `${Math.round(interval.latency_ms)} ms`],
      ...Object.entries(interval.regions).map(([name, share]) => [`Share: ${plain(name)}`, percent(share)]),
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
    this.$("no-images").textContent = interval.state === "open" ? "The pictures follow when the movement has ended."
      : "No pictures: this page did not show faces at that time. Pictures stay in this page and are stored nowhere.";
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

const percent = (share) => `${Math.round(100 * share)} %`;
const qualityName = (name) => ({ fps: "Camera rate (fps)", face_px: "Face width (px)", yaw_deg: "Head turned (°)", pitch_deg: "Head tilted (°)", blur: "Blur (0–1)", light: "Brightness (0–255)" }[name] ?? plain(name));
