// Asks for documents again and again; stops while the tab is hidden or paused, waits longer and longer while nobody
// answers. What was shown stays, and is said to be old.

const TICK_MS = 2000;
const PATIENCE_MS = 10000;
const FIRST_WAIT_MS = 2000;
const LONGEST_WAIT_MS = 30000;

export const State = Object.freeze({ LIVE: "live", PAUSED: "paused", HIDDEN: "hidden", LOST: "lost" });

export class Poller {
  // round(get): one round of questions; get(path) gives a document, null where the answer is an error, and throws where
  // there is none. told(state, waitMs): when the state changes, and at every failure.
  constructor(round, told) {
    this.round = round;
    this.told = told;
    this.paused = false;
    this.failures = 0;
    this.timer = 0;
    this.running = false;
    this.again = false;
    this.lastMs = 0;
    document.addEventListener("visibilitychange", () => this.now());
    addEventListener("online", () => this.now());
  }

  // At once, whatever was waited for.
  now() {
    clearTimeout(this.timer);
    if (this.running) {
      this.again = true;
      return;
    }
    this.run();
  }

  pause(paused) {
    this.paused = paused;
    this.now();
  }

  async run() {
    if (this.paused || document.hidden) {
      this.told(this.paused ? State.PAUSED : State.HIDDEN, 0);
      return;
    }
    this.running = true;
    let wait = TICK_MS;
    try {
      await this.round((path) => get(path));
      this.failures = 0;
      this.lastMs = Date.now();
      this.told(State.LIVE, 0);
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures);
      this.failures += 1;
      this.told(State.LOST, wait);
    } finally {
      this.running = false;
      this.timer = setTimeout(() => this.run(), this.again ? 0 : wait);
      this.again = false;
    }
  }
}

class NoAnswer extends Error {}

async function get(path) {
  try {
    const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
    return answer.ok ? await answer.json() : null;
  } catch (error) {
    throw new NoAnswer(`${path}: ${error}`);
  }
}
