const state = document.getElementById("state");
const list = document.getElementById("events");
const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/events?after=:0`);
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  if (message.type === "hello") state.textContent = `Analysing ${message.source}`;
  if (message.type === "event") {
    const item = document.createElement("li");
    item.textContent = `face ${message.face}: ${message.phase} at ${message.onset_s} s, score ${message.score}`;
    list.prepend(item);
  }
};
socket.onclose = () => { state.textContent = "Connection lost"; };
