// What the machine's words mean to the person who reads them.

const STATES = { watching: "watched", calibrating: "getting to know this face", cannot_spot: "not watched" };

const REASONS = {
  low_fps: "the camera gives too few frames; more light often helps",
  too_dark: "it is too dark",
  blurred: "the picture is blurred",
  too_small: "the face is too small; come closer",
  turned_away: "the face is turned too far",
  lost: "the face is out of view",
  frames_missing: "some frames are missing",
  overload: "the computer is too slow for so many faces",
  stalled: "no pictures arrive",
  frozen: "the picture is frozen",
  black: "the picture is black",
  reconnecting: "the camera is gone; trying to reconnect",
  clock_jump: "the camera's clock jumped",
  resolution_changed: "the size of the picture changed",
  loop: "the clip started again",
  gap: "the picture was interrupted",
  source_gap: "the picture was interrupted",
  closed: "the program stopped",
};

const SUPPRESSED = {
  blink: "a blink",
  macro: "longer than a micro-expression",
  speech: "speech",
  head: "a head movement",
  faded: "too weak once it was seen whole",
  too_short: "too short",
  duplicate: "part of another movement",
};

const MOVEMENTS = { brows: "Brow movement", eyes: "Movement around the eyes", cheeks: "Cheek movement", mouth: "Mouth movement" };

export const plain = (word) => String(word).replaceAll("_", " ");
export const stateInWords = (face) =>
  face.reason ? `${STATES[face.state] ?? plain(face.state)}: ${REASONS[face.reason] ?? plain(face.reason)}`
    : STATES[face.state] ?? plain(face.state);
export const suppressedInWords = (word) => SUPPRESSED[word] ?? REASONS[word] ?? plain(word ?? "no reason given");

export function topRegion(regions) {
  const [name, share] = Object.entries(regions ?? {}).reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0]);
  return share > 0 ? { name, share, words: plain(name) } : null;
}

// "Brow movement, 0.40 s": what a person reads first about an interval.
export function intervalInWords(interval) {
  const name = topRegion(interval.regions)?.name;
  const what = name ? MOVEMENTS[name] ?? `Movement, ${plain(name)}` : "Movement";
  if (interval.state === "retracted") return `Not counted: ${suppressedInWords(interval.suppressed)}`;
  if (interval.state === "unsettled") return `${what}, end unknown`;
  return interval.state === "open" ? `${what}, going on` : `${what}, ${seconds(interval.offset_s - interval.onset_s)}`;
}

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
export const clock = (wallS) => clockFormat.format(new Date(wallS * 1000));
export const seconds = (s, digits = 2) => (s === null || s === undefined ? "–" : `${s.toFixed(digits)} s`);

export function duration(s) {
  const whole = Math.max(0, Math.round(s));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((n, i) => (i ? String(n).padStart(2, "0") : n)).join(":");
}
