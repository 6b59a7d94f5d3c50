// The session as a CSV file: one row per interval and per mark, in order of time.

const COLUMNS = ["kind", "state", "reason", "face", "onset_s", "apex_s", "offset_s", "duration_s", "score", "brows", "eyes",
  "cheeks", "mouth", "wall_clock", "latency_ms", "id", "epoch", "source", "note"];

// Quoted where needed; a note that a spreadsheet would run as a formula is made text.
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(session) {
  const rows = [...session.intervals.values()].map((interval) => ({
    at: session.wall(interval.epoch, interval.onset_s),
    kind: "interval", state: interval.state, reason: interval.suppressed, face: interval.face, onset_s: interval.onset_s,
    apex_s: interval.apex_s, offset_s: interval.offset_s,
    duration_s: interval.offset_s === null ? null : (interval.offset_s - interval.onset_s).toFixed(4),
    score: interval.score, ...interval.regions, wall_clock: interval.time, latency_ms: interval.latency_ms,
    id: interval.id, epoch: interval.epoch, source: interval.source,
  }));
  for (const mark of session.marks) {
    rows.push({ at: mark.wallS, kind: "mark", wall_clock: new Date(mark.wallS * 1000).toISOString(), note: mark.note });
  }
  rows.sort((a, b) => a.at - b.at);
  return [COLUMNS.join(","), ...rows.map((row) => COLUMNS.map((name) => cell(row[name])).join(","))].join("\r\n") + "\r\n";
}

export function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
