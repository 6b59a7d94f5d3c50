// The list of intervals, marks and notices, newest first.

import { clock, intervalInWords, topRegion } from "./words.js";

const SHOWN = 300;

export class IntervalList {
  constructor(session, container, onOpen, onMark) {
    Object.assign(this, { session, container, onOpen, onMark });
    this.items = new Map();
  }

  show() {
    this.stale = true;
  }

  // Built when the page is drawn, so that a thousand events in a row cost one rebuild.
  tick() {
    if (!this.stale) return;
    this.stale = false;
    const { session } = this;
    const entries = [
      ...[...session.intervals.values()].map((interval) => ({ at: session.wall(interval.epoch, interval.onset_s), key: interval.key, interval })),
      ...session.marks.map((mark) => ({ at: mark.wallS, key: mark.key, mark })),
      ...session.notices.map((notice) => ({ at: notice.wallS, key: `notice-${notice.wallS}-${notice.text}`, notice })),
    ].sort((a, b) => b.at - a.at).slice(0, SHOWN);
    const items = new Map(entries.map((entry) => [entry.key, this.#item(entry)]));
    this.items = items;
    const wanted = [...items.values()];
    wanted.forEach((item, i) => {
      if (this.container.children[i] !== item) this.container.insertBefore(item, this.container.children[i] ?? null);
    });
    while (this.container.children.length > wanted.length) this.container.lastChild.remove();
    const count = (state) => [...session.intervals.values()].filter((interval) => interval.state === state).length;
    document.getElementById("tally").textContent = `${count("settled")} seen · ${count("retracted")} not counted`;
  }

  #item({ at, key, interval, mark, notice }) {
    const item = this.items.get(key) ?? document.createElement("li");
    const text = notice ? `${notice.text} · ${clock(at)}` : null;
    if (notice) {
      item.className = "notice";
      if (item.textContent !== text) item.textContent = text;
      return item;
    }
    const state = mark ? "mark" : interval.state;
    const shown = JSON.stringify(mark ? [at, mark.note] : [at, interval.seq, state]);
    if (item.dataset.shown === shown) return item;
    item.dataset.shown = shown;
    item.dataset.state = state;
    if (!item.firstChild) item.append(this.#button(key, mark, interval));
    const part = (name) => item.querySelector(`.${name}`);
    part("sign").dataset.state = state;
    part("when").textContent = clock(at);
    if (mark) {
      part("what").textContent = mark.note || "Mark";
      part("sub").textContent = "";
      part("bars").hidden = true;
      return item;
    }
    const region = topRegion(interval.regions);
    part("what").textContent = intervalInWords(interval);
    part("sub").textContent = `Face ${interval.face} · score ${interval.score.toFixed(2)}`;
    this.#bars(part("bars"), interval, region);
    part("bars").hidden = state === "retracted";
    return item;
  }

  #button(key, mark, interval) {
    const button = document.createElement("button");
    button.type = "button";
    button.innerHTML = '<span class="sign"></span><span class="what"></span><span class="when"></span><span class="sub"></span><span class="bars"></span>';
    button.onclick = () => (mark ? this.onMark(mark) : this.onOpen(this.session.intervals.get(key)));
    return button;
  }

  #bars(container, { regions }, top) {
    container.replaceChildren(...Object.entries(regions).map(([name, share]) => {
      const bar = document.createElement("span");
      bar.textContent = name;
      bar.style.setProperty("--share", `${Math.round(100 * share)}%`);
      bar.dataset.top = name === top?.name;
      return bar;
    }));
  }
}

