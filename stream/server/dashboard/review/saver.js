// Saves a coding after each change, one write at a time. A conflict is merged and saved again; an unreachable server is
// tried again until it answers.

const AGAIN_MS = 2000;

export class Saver {
  // told: state(name, text), merged(clashes), refused(text)
  constructor(api, coding, told) {
    Object.assign(this, { api, coding, told });
    this.closed = false;
  }

  get busy() { return this.running !== undefined && this.running !== null; }

  // Call after a change. Resolves once all is stored, or refused.
  save() {
    this.running ??= this.#saveAll().finally(() => { this.running = null; });
    return this.running;
  }

  async #saveAll() {
    while (this.coding.changed && !this.closed) {
      this.told.state("saving", "Saving…");
      let answer;
      try {
        answer = await this.api.save(this.coding.message());
      } catch (error) {
        this.told.state("lost", `Not saved: ${error.message} Trying again…`);
        await new Promise((resolve) => { setTimeout(resolve, AGAIN_MS); });
        continue;
      }
      if (answer.type === "saved") this.coding.saved(answer.coding);
      else if (answer.type === "conflict") this.told.merged(this.coding.takeIn(answer.coding));
      else {
        this.told.state("lost", "Not saved");
        return this.told.refused(answer.message);
      }
    }
    this.told.state("connected", "Saved");
  }
}
