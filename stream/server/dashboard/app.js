// The page: what the session knows, laid out; what the person does, done.

import { Connection } from "./connection.js";
import { Detail } from "./detail.js";
import { csv, save } from "./export.js";
import { FaceCards } from "./faces.js";
import { showHealth } from "./health.js";
import { IntervalList } from "./list.js";
import { Session } from "./session.js";
import { View } from "./view.js";
import { intervalInWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const DRAW_EVERY_MS = 66;

const session = new Session();
const view = new View(session, $("timeline"), $("window-label"), $("live"));
const detail = new Detail(session, $("detail"));
const cards = new FaceCards(session, view, $("faces"), (interval) => detail.open(interval));
const list = new IntervalList(session, $("list"), (interval) => detail.open(interval), editMark);
let linkState = "connecting";

const connection = new Connection({
  message(message) {
    const changed = session.take(message);
    if (message.type === "event") connection.taken(message);
    if (changed === "event") announce(session.intervals.get(message.id));
    if (["event", "gap", "hello"].includes(changed)) list.show();
    if (["hello", "status"].includes(changed)) showAnalysing();
    if (["hello", "status", "event"].includes(changed)) detail.refresh();
  },
  state(name, text) {
    linkState = name;
    $("link").dataset.state = document.body.dataset.link = name;
    $("link").textContent = text;
    showAnalysing();
  },
  needToken(why) {
    if (why) $("token-why").textContent = why;
    $("token-text").value = "";
    $("token").showModal();
    return new Promise((resolve) => {
      $("token").addEventListener("close", () => resolve($("token-text").value), { once: true });
    });
  },
});

function showAnalysing() {
  const live = linkState === "connected" && session.hello;
  $("analysing").dataset.state = live ? "live" : "waiting";
  const source = session.hello?.source ?? "";
  const kind = source.startsWith("camera") || source.startsWith("/dev") ? "A camera is being analysed" : "Video is being analysed";
  $("analysing-title").textContent = live ? kind : "Not live";
  $("analysing-source").textContent = source;
  document.title = live ? "● Micro-expression stream" : "Micro-expression stream";
  showHealth(session, linkState, $("health"), $("degraded"));
}

function announce(interval) {
  if (interval.state === "open") return;
  $("announce").textContent = `Face ${interval.face}: ${intervalInWords(interval)}`;
}

function setPreview(on) {
  $("preview").checked = on;
  localStorage.setItem("preview", on ? "on" : "off");
  connection.setPreview(on);
  cards.preview = on;
  if (!on) for (const face of session.faces.values()) face.previews.length = 0;
}

function editMark(mark) {
  $("note-title").textContent = `Mark at ${view.label(mark.wallS)}`;
  $("note-text").value = mark.note;
  $("note").returnValue = "keep";
  $("note").showModal();
  $("note").onclose = () => {
    if ($("note").returnValue === "remove") session.unmark(mark);
    else mark.note = $("note-text").value.trim();
    list.show();
  };
}

const actions = {
  m: () => {
    const mark = session.mark();
    list.show();
    editMark(mark);
  },
  e: () => save(`micro-expressions-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.csv`, csv(session)),
  v: () => setPreview(!$("preview").checked),
  l: () => view.goLive(),
  "?": () => $("keys").showModal(),
  "+": () => view.zoom(0.5),
  "-": () => view.zoom(2),
};

$("marker").onclick = actions.m;
$("export").onclick = actions.e;
$("help").onclick = actions["?"];
$("live").onclick = actions.l;
$("preview").onchange = () => setPreview($("preview").checked);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea") || document.querySelector("dialog[open]")) return;
  const action = actions[event.key === "=" ? "+" : event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

// Drawing is as often as the eye needs it and not at all while the page is hidden (the browser holds the frames back).
let drawnMs = 0;
function draw(nowMs) {
  if (nowMs - drawnMs >= DRAW_EVERY_MS) {
    drawnMs = nowMs;
    view.draw();
    cards.draw();
    list.tick();
    $("no-face").hidden = session.faces.size > 0;
    $("no-interval").hidden = session.intervals.size + session.marks.length > 0;
  }
  requestAnimationFrame(draw);
}

setPreview(localStorage.getItem("preview") !== "off");
showAnalysing();
connection.start();
requestAnimationFrame(draw);
window.session = session; // for those who like to look with the browser's console
