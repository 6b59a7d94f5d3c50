// One connection that comes back: it remembers the last event it was given and resumes there.

const TOPICS = ["events", "status", "scores"];
const TOKEN_KEY = `token ${location.pathname}`; // a proxy may serve several programs on one origin
const BACKOFF_S = [0.5, 1, 2, 4, 5];

export class Connection {
  // handlers: message(object), state(name, text), needToken(why) -> Promise<string>
  constructor(handlers) {
    this.handlers = handlers;
    this.after = ":0"; // everything of the running epoch
    this.preview = false;
    this.failures = 0;
    this.heartbeatS = 5;
  }

  async start() {
    if (this.token === undefined) this.token = sessionStorage.getItem(TOKEN_KEY);
    if (!this.token && (await this.#tokenNeeded())) await this.#askForToken("");
    this.#open();
  }

  setPreview(on) {
    this.preview = on;
    if (this.socket?.readyState === WebSocket.OPEN && this.helloSeen) this.#subscribe();
  }

  // Called by whoever has taken an event in, so that only what was really taken in is not asked for again.
  taken(event) {
    this.after = `${event.epoch}:${event.seq}`;
  }

  async #tokenNeeded() {
    try {
      return (await fetch("api/events?after=:0&limit=1", { cache: "no-store" })).status === 401;
    } catch {
      return false; // not reachable at all: the socket will say so
    }
  }

  async #askForToken(why) {
    this.token = await this.handlers.needToken(why);
    sessionStorage.setItem(TOKEN_KEY, this.token);
  }

  #open() {
    const url = new URL(`events?after=${this.after}`, location.href); // a proxy may serve the page under any path
    url.protocol = url.protocol.replace("http", "ws");
    const socket = new WebSocket(url);
    this.socket = socket;
    this.helloSeen = false;
    this.refusal = null;
    socket.onopen = () => {
      if (this.token) socket.send(JSON.stringify({ type: "auth", token: this.token }));
      this.#watch();
    };
    socket.onmessage = ({ data }) => {
      if (socket !== this.socket) return; // a late word of a connection that was given up
      this.#watch();
      this.#take(JSON.parse(data));
    };
    socket.onclose = () => {
      if (socket === this.socket) this.#retry();
    };
  }

  #take(message) {
    if (message.type === "hello") {
      this.helloSeen = true;
      this.failures = 0;
      this.heartbeatS = message.heartbeat_s;
      this.#subscribe();
      this.handlers.state("connected", "Connected");
    } else if (message.type === "error") {
      this.refusal = message;
    }
    this.handlers.message(message);
  }

  #subscribe() {
    this.socket.send(JSON.stringify({ type: "subscribe", topics: this.preview ? [...TOPICS, "preview"] : TOPICS }));
  }

  // A status comes at least every heartbeat; three missed ones mean that nobody is there.
  #watch() {
    clearTimeout(this.watchdog);
    const socket = this.socket;
    this.watchdog = setTimeout(() => {
      if (socket !== this.socket) return;
      this.socket = null;
      socket.close();
      this.#retry();
    }, 3000 * this.heartbeatS + 2000);
  }

  async #retry() {
    clearTimeout(this.watchdog);
    const code = this.refusal?.code;
    if (code === "bad_token" || code === "auth_required") {
      sessionStorage.removeItem(TOKEN_KEY);
      this.handlers.state("lost", "Token needed");
      await this.#askForToken(code === "bad_token" ? "That token was wrong." : "");
      return this.#open();
    }
    const waitS = code === "rate_limited" ? 10 : BACKOFF_S[Math.min(this.failures++, BACKOFF_S.length - 1)];
    this.handlers.state("lost", this.failures > 2 ? `Not reachable; trying again every ${waitS} s` : "Connection lost; reconnecting…");
    setTimeout(() => this.#open(), waitS * 1000 * (0.8 + 0.4 * Math.random()));
  }
}
