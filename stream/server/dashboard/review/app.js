// Which page is shown: the list of sessions, or the one that the address names.

import { duration } from "../words.js";
import { Api } from "./api.js";
import { SessionPage } from "./page.js";

const $ = (id) => document.getElementById(id);

const api = new Api(async (why) => {
  if (why) $("token-why").textContent = why;
  $("token-text").value = "";
  $("token").showModal();
  await new Promise((resolve) => { $("token").addEventListener("close", resolve, { once: true }); });
  return $("token-text").value;
});
const page = new SessionPage(api, { notice, reload: show });

function notice(text, choices = []) {
  $("notice").hidden = !text;
  $("notice").querySelector("span").textContent = text;
  $("notice").querySelector(".choices").replaceChildren(...choices.map(([words, act]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = words;
    button.onclick = () => { notice(""); act(); };
    return button;
  }));
}

async function show() {
  const name = decodeURIComponent(location.hash.match(/^#session=(.*)$/)?.[1] ?? "");
  page.close();
  notice("");
  try {
    const shelf = await api.sessions(); // also brings the cookie that the video needs
    const coder = $("coder").value.trim(), blind = coder !== "" && $("blind").checked;
    if (name) page.open(await api.session(name, coder, blind), blind);
    else list(shelf.sessions);
    $("shelf").hidden = Boolean(name);
    $("session").hidden = !name;
    document.title = name || "Sessions";
  } catch (error) {
    $("shelf").hidden = !(name && $("session").hidden) && Boolean(name);
    notice(error.message, [["Try again", show]]);
  }
}

function list(sessions) {
  $("no-session").hidden = sessions.length > 0;
  $("sessions").replaceChildren(...sessions.map((session) => {
    const item = document.createElement("li"), link = document.createElement("a"), facts = document.createElement("span");
    link.textContent = session.name;
    if (session.trouble) {
      item.dataset.trouble = "true";
      facts.textContent = session.trouble;
    } else {
      link.href = `#session=${encodeURIComponent(session.name)}`;
      const coders = session.coders.length ? `coded by ${session.coders.join(", ")}` : "not coded yet";
      const many = `${session.intervals} interval${session.intervals === 1 ? "" : "s"}`;
      const started = new Date(session.started);
      facts.textContent = [
        session.source, Number.isNaN(started.getTime()) ? "" : started.toLocaleString(), duration(session.duration_s),
        $("blind").checked && $("coder").value ? "" : many, $("blind").checked && $("coder").value ? "" : coders,
        session.complete ? "" : "not finished by the program", session.consent,
      ].filter(Boolean).join(" · ");
    }
    item.append(link, facts);
    return item;
  }));
}

function remember() {
  localStorage.setItem("coder", $("coder").value.trim());
  localStorage.setItem("blind", $("blind").checked ? "on" : "");
  $("blind").disabled = !$("coder").value.trim();
}

$("coder").value = localStorage.getItem("coder") ?? "";
$("blind").checked = localStorage.getItem("blind") === "on";
remember();
$("coder").oninput = remember;
$("coder").onchange = $("blind").onchange = () => {
  remember();
  if ($("coder").reportValidity()) show();
};
$("coder-form").onsubmit = (event) => { event.preventDefault(); show(); };
$("notice").querySelector(":scope > button").onclick = () => notice("");
window.addEventListener("hashchange", show);
window.review = page; // for those who like to look with the browser's console
show();
