// What the page asks its server for. A token stays in this tab; the video's cookie is renewed while the page is open.

const ROOT = new URL("..", location.href); // a proxy may serve the program under any path
const TOKEN_KEY = `token ${ROOT.pathname}`;
const RENEW_MS = 240_000;
const ANSWER_MS = 15_000;

export class Api {
  // needToken(why) -> Promise<string>
  constructor(needToken) {
    this.needToken = needToken;
    setInterval(() => this.sessions().catch(() => {}), RENEW_MS);
  }

  sessions() { return this.#json("api/sessions"); }
  session(name, coder, blind) { return this.#json(this.#path(name, "", { coder, blind: blind ? 1 : 0 })); }
  trace(name, query) { return this.#json(this.#path(name, "/trace", query)); }
  track(name, query) { return this.#json(this.#path(name, "/track", query)); }
  videoUrl(name, number) { return new URL(this.#path(name, `/video/${number}`), ROOT).href; }

  // Returns the server's answer: saved, conflict or error. Raises Error if it can't be reached.
  async save(coding) {
    for (;;) {
      const answer = await this.#exchange(JSON.stringify(coding));
      if (!["bad_token", "auth_required"].includes(answer.code)) return answer;
      await this.#askForToken("That token was wrong.");
    }
  }

  #path(name, part, query = {}) {
    return `api/sessions/${encodeURIComponent(name)}${part}${Object.keys(query).length ? `?${new URLSearchParams(query)}` : ""}`;
  }

  async #json(path) {
    for (let why = ""; ; why = "That token was wrong.") {
      const token = sessionStorage.getItem(TOKEN_KEY);
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      const response = await fetch(new URL(path, ROOT), { headers, cache: "no-store" }).catch(() => {
        throw new Error("The program does not answer. Is it still running?");
      });
      if (response.status === 401) {
        await this.#askForToken(token ? "That token was wrong." : why);
        continue;
      }
      const answer = await response.text();
      let message = null;
      try { message = JSON.parse(answer); } catch { throw new Error(answer.trim()); }
      if (!response.ok) throw new Error(message.trouble);
      return message;
    }
  }

  async #askForToken(why) {
    this.asking ??= this.needToken(why).finally(() => { this.asking = null; });
    sessionStorage.setItem(TOKEN_KEY, await this.asking);
  }

  #exchange(text) {
    const url = new URL("codings", ROOT);
    url.protocol = url.protocol.replace("http", "ws");
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(url);
      const failed = () => reject(new Error("The program does not answer."));
      const late = setTimeout(() => { socket.close(); failed(); }, ANSWER_MS);
      socket.onopen = () => {
        const token = sessionStorage.getItem(TOKEN_KEY);
        if (token) socket.send(JSON.stringify({ type: "auth", token }));
        socket.send(text);
      };
      socket.onmessage = ({ data }) => { resolve(JSON.parse(data)); socket.close(); };
      socket.onclose = () => { clearTimeout(late); failed(); };
    });
  }
}
