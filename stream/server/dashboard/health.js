// The strip that says how the program is doing.

import { plain } from "./words.js";

const number = (value, digits = 0) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function falseAlarms(status) {
  const rate = status?.false_alarms_per_hour;
  if (rate === null || rate === undefined) return "";
  const bound = status.operating_point?.upper_bound;
  return `${number(rate, 1)} false alarms/h${bound ? `, at most ${number(bound, 1)}` : ""}`;
}

// What scores must pass: of the faces in view, each of which may have its own; of everybody before there is one.
function thresholds(session) {
  const faces = [...session.faces.values()].filter((face) => !face.gone && face.scores.length);
  const own = faces.map((face) => face.scores.at(-1).threshold).sort((a, b) => a - b);
  const [low, high] = own.length ? [own[0], own.at(-1)] : [session.status?.threshold, session.status?.threshold];
  return number(low, 2) === number(high, 2) ? number(low, 2) : `${number(low, 2)} to ${number(high, 2)}`;
}

function entries(session, link) {
  const { status, hello } = session;
  const faces = status?.faces ?? [];
  const dropped = Object.entries(status?.dropped ?? {});
  const total = dropped.reduce((sum, [, count]) => sum + count, 0);
  const blocked = faces.filter((face) => face.state === "cannot_spot");
  const calibrating = faces.filter((face) => face.state === "calibrating");
  return [
    ["Camera rate", `${number(status?.fps, 1)}`, "frames/s", blocked.some((face) => face.reason === "low_fps")],
    ["Delay", `${number(status?.latency_ms?.p50)}`, `ms, up to ${number(status?.latency_ms?.p99)}`, false],
    ["Dropped frames", String(total), dropped.filter(([, count]) => count).map(([stage, count]) => `${plain(stage)} ${count}`).join(", "), false],
    ["Faces", !faces.length ? "none" : `${faces.length - blocked.length} of ${faces.length} watched`,
      [blocked.length && `${blocked.length} not`, calibrating.length && `${calibrating.length} new`].filter(Boolean).join(", "),
      blocked.length > 0],
    ["Threshold", thresholds(session), falseAlarms(status), false],
    ["Runs on", status?.runtime ?? hello?.runtime ?? "–", hello?.model?.name ?? "", false],
  ].map((entry) => (link === "connected" ? entry : [entry[0], entry[1], "", entry[3]]));
}

export function showHealth(session, link, list, degraded) {
  list.replaceChildren(...entries(session, link).map(([name, value, detail, warn]) => {
    const row = document.createElement("div");
    if (warn) row.dataset.level = "warn";
    const term = document.createElement("dt"), text = document.createElement("dd"), small = document.createElement("small");
    term.textContent = name;
    text.textContent = `${value} `;
    small.textContent = detail;
    text.append(small);
    row.append(term, text);
    return row;
  }));
  const words = session.status?.degraded ?? [];
  if (degraded.dataset.words === JSON.stringify(words)) return; // else a screen reader repeats it every second
  degraded.dataset.words = JSON.stringify(words);
  degraded.replaceChildren(...words.map((reason) => Object.assign(document.createElement("li"), { textContent: reason })));
}
