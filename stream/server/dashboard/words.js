// What the machine's words mean to the person who reads them.

const STATES = { watching: "watching", calibrating: "getting to know this face", cannot_spot: "cannot spot" };

const REASONS = {
  low_fps: "the camera gives too few frames; more light usually helps",
  too_dark: "it is too dark",
  blurred: "the picture is blurred",
  too_small: "the face is too small; come closer",
  turned_away: "the face is turned away",
  lost: "the face is out of view",
  frames_missing: "frames are missing",
  overload: "the machine cannot keep up",
  stalled: "the camera gives no pictures",
  frozen: "the picture is frozen",
  black: "the picture is black",
  reconnecting: "the camera is gone; trying to get it back",
  clock_jump: "the camera's clock jumped",
  resolution_changed: "the picture changed its size",
  loop: "the clip starts again",
  gap: "the picture was interrupted",
  source_gap: "the picture was interrupted",
  closed: "the program was stopped",
};

const SUPPRESSED = {
  blink: "a blink",
  macro: "a longer expression",
  speech: "speech",
  head: "a head movement",
  faded: "it faded before it settled",
  too_short: "too short",
  duplicate: "part of another interval",
};

const PLACES = { brows: "brows", eyes: "eyes", cheeks: "cheeks", mouth: "mouth" };

export const plain = (word) => String(word).replaceAll("_", " ");
export const stateInWords = (face) =>
  face.reason ? `${STATES[face.state] ?? plain(face.state)}: ${REASONS[face.reason] ?? plain(face.reason)}`
    : STATES[face.state] ?? plain(face.state);
export const suppressedInWords = (word) => SUPPRESSED[word] ?? REASONS[word] ?? plain(word ?? "no reason given");

export function topRegion(regions) {
  const [name, share] = Object.entries(regions ?? {}).reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0]);
  return share > 0 ? { name, share, words: PLACES[name] ?? plain(name) } : null;
}

export const intervalState = (interval) => ({
  open: "Begun", settled: "Settled", retracted: "Taken back", unsettled: "Never settled",
}[interval.state]);

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
export const clock = (wallS) => clockFormat.format(new Date(wallS * 1000));
export const seconds = (s, digits = 2) => (s === null || s === undefined ? "–" : `${s.toFixed(digits)} s`);

export function duration(s) {
  const whole = Math.max(0, Math.round(s));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((n, i) => (i ? String(n).padStart(2, "0") : n)).join(":");
}
