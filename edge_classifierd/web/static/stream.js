// The event stream of the device: connects again by itself, and holds no connection while the tab is hidden.
import { address, get } from "./api.js?v=__BUILD__";

const TYPES = ["hello", "scores", "event", "status", "settings", "health", "training", "taught"];
const HELLO_TIMEOUT_MS = 5000;
const POLL_MS = 2000;

export class Stream {
  #listeners = new Map();
  #source = null;
  #pipeline = null;
  #timer = 0;
  #poll = 0;
  #failures = 0;
  #lostAt = null;
  #last = null;

  constructor() {
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#close() : this.#connect()));
    addEventListener("pagehide", () => this.#close());
    addEventListener("online", () => this.#lostAt && this.#connect());
  }

  /** Call `listener(data)` for each message of a type; `link` reports {connected, since}. Return what removes it. */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Connect, with the scores of a pipeline or (null) of none. */
  open(pipeline) {
    if (this.#source && this.#pipeline === pipeline) return;
    this.#pipeline = pipeline;
    this.#connect();
  }

  #emit(type, data) {
    for (const listener of this.#listeners.get(type) ?? []) listener(data);
  }

  #close() {
    clearTimeout(this.#timer);
    clearInterval(this.#poll);
    this.#source?.close();
    this.#source = null;
    this.#poll = 0;
  }

  #connect() {
    this.#close();
    if (document.hidden) return;
    const source = new EventSource(address(["stream"], { pipeline: this.#pipeline, after: this.#last }));
    this.#source = source;
    this.#timer = setTimeout(() => this.#startPolling(), HELLO_TIMEOUT_MS);
    source.addEventListener("hello", () => this.#connected());
    source.addEventListener("event", ({ lastEventId }) => (this.#last = lastEventId)); // what a lost link missed is sent
    source.addEventListener("bye", () => this.#lost());
    source.addEventListener("error", () => this.#source === source && this.#lost());
    for (const type of TYPES) source.addEventListener(type, (message) => this.#emit(type, JSON.parse(message.data)));
  }

  #connected() {
    clearTimeout(this.#timer);
    clearInterval(this.#poll);
    this.#failures = 0;
    this.#lostAt = null;
    this.#emit("link", { connected: true, since: null });
  }

  /** A proxy may hold back event streams: ask for the overview instead, while the stream stays open. */
  #startPolling() {
    const ask = async () => {
      try {
        const overview = await get(["overview"]);
        this.#emit("overview", overview);
        if (this.#lostAt) this.#emit("link", { connected: true, since: (this.#lostAt = null) });
      } catch { /* the stream reports the lost link */ }
    };
    this.#poll = setInterval(ask, POLL_MS);
    ask();
  }

  #lost() {
    this.#close();
    this.#lostAt ??= Date.now();
    this.#emit("link", { connected: false, since: this.#lostAt });
    const wait = Math.min(30, 2 ** this.#failures++) * (0.75 + Math.random() / 2);
    this.#timer = setTimeout(async () => {
      // An EventSource does not report why it was refused: a plain request asks for the password if that is the reason.
      try {
        await get(["overview"]);
      } catch { /* still away */ }
      this.#connect();
    }, wait * 1000);
  }
}
