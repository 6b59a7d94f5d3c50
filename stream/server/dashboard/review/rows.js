// The list of intervals, and the editor of the selected one.

import { topRegion } from "../words.js";
import { unitsText } from "./units.js";

const WORDS = { accepted: "Accepted", rejected: "Rejected", added: "Added" };

export class Rows {
  constructor(list, editor, onSelect) {
    Object.assign(this, { list, editor, onSelect });
    this.tally = document.getElementById("tally");
    this.empty = document.getElementById("no-row");
  }

  show(rows, { selected, startS, coding, hidden, rejecting }) {
    const held = this.list.contains(document.activeElement);
    this.list.replaceChildren(...rows.map((row) => this.#item(row, row.id === selected, startS)));
    const judged = rows.filter(({ kind, mark }) => kind === "machine" && mark).length;
    const machine = rows.filter(({ kind }) => kind === "machine").length;
    this.tally.textContent = hidden ? `${rows.length} added` : coding ? `${judged} of ${machine} judged` : `${machine}`;
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = hidden ? "Watch the video, and add what you see with N." : "The machine reported none.";
    const current = this.list.querySelector("[aria-current]");
    current?.scrollIntoView({ block: "nearest" });
    if (held) current?.focus({ preventScroll: true });
    this.#edit(rows.find(({ id }) => id === selected), startS, coding, rejecting);
  }

  #item(row, selected, startS) {
    const { mark, interval, kind, others } = row;
    const at = mark ?? interval;
    const item = document.createElement("li"), button = document.createElement("button");
    item.dataset.verdict = mark?.verdict ?? (kind === "other" ? "other" : "none");
    button.type = "button";
    if (selected) button.setAttribute("aria-current", "true");
    button.onclick = () => this.onSelect(row.id);
    const where = kind === "machine" ? topRegion(interval.regions)?.words ?? "no region" : kind === "other" ? `Added by ${others[0].coder}` : "Added by you";
    const lines = [
      ["sign", ""], ["what", kind === "machine" ? `Mostly ${where}` : where], ["when", `${(at.onset_s - startS).toFixed(2)} s`],
      ["sub", [verdictText(mark), `${(at.offset_s - at.onset_s).toFixed(2)} s long`, unitsText(mark?.units ?? []), mark?.note].filter(Boolean).join(" · ")],
      ...(kind === "other" ? [] : others.map(({ coder, mark: theirs }) => ["sub theirs", `${coder}: ${verdictText(theirs).toLowerCase()}`])),
    ];
    button.append(...lines.map(([name, text]) => {
      const span = document.createElement("span");
      span.className = name;
      span.textContent = text;
      return span;
    }));
    item.append(button);
    return item;
  }

  #edit(row, startS, coding, rejecting) {
    const mark = row?.mark, at = mark ?? row?.interval;
    this.editor.hidden = !row || !coding || coding.locked || row.kind === "other";
    if (!at) return;
    const $ = (id) => document.getElementById(id);
    $("reasons").hidden = rejecting !== row.id;
    for (const button of this.editor.querySelectorAll("[data-do]")) {
      const given = { accept: "accepted", reject: "rejected" }[button.dataset.do];
      if (given) button.setAttribute("aria-pressed", String(mark?.verdict === given));
      button.hidden = row.kind === "mine" && button.dataset.do !== "clear";
    }
    const bounds = [["Onset", "I", at.onset_s], ["Apex", "P", at.apex_s], ["Offset", "O", at.offset_s]];
    $("bounds").replaceChildren(...bounds.map(([name, key, s]) => bound(name, key, s === null ? "–" : `${(s - startS).toFixed(3)} s`)));
    if (document.activeElement !== $("units")) $("units").value = unitsText(mark?.units ?? []);
    if (document.activeElement !== $("note")) $("note").value = mark?.note ?? "";
  }
}

function verdictText(mark) {
  return mark ? WORDS[mark.verdict] + (mark.reason ? ` (${mark.reason})` : "") : "";
}

function bound(name, key, text) {
  const box = document.createElement("div"), term = document.createElement("dt"), value = document.createElement("dd"), cap = document.createElement("kbd");
  cap.textContent = key;
  term.append(`${name} `, cap);
  value.textContent = text;
  box.append(term, value);
  return box;
}
