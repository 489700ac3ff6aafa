// What the page knows of the device: the overview, kept up to date by the stream.
import { get } from "./api.js?v=__BUILD__";

export class Device extends EventTarget {
  overview = null;
  #timer = 0;

  constructor(stream) {
    super();
    stream.on("overview", (overview) => this.#take(overview));
    stream.on("status", (status) => this.#merge(status));
    stream.on("scores", (scores) => this.#scores(scores));
    stream.on("training", (training) => this.#train(training));
    // Whoever changed a setting, MQTT too: the overview has all of them. Several at once are read once. Every five
    // seconds, with `health`, it also brings the rates.
    stream.on("settings", () => this.#soon());
    stream.on("health", () => this.#soon());
  }

  /** Read the overview again. */
  async refresh() {
    this.#take(await get(["overview"]));
  }

  /** Take over a setting that the device has confirmed; `key` names it in `overridden`. */
  set(pipeline, values, key, overridden) {
    const one = this.pipeline(pipeline);
    if (!one) return;
    const others = one.overridden.filter((name) => name !== key);
    this.#merge({ pipeline, ...values, overridden: overridden ? [...others, key] : others });
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh().catch(() => {}), 150);
  }

  get pipelines() {
    return this.overview?.pipelines ?? [];
  }

  pipeline(name) {
    return this.pipelines.find((one) => one.name === name);
  }

  /** Call `listener` after each change. Return what removes it. */
  watch(listener) {
    this.addEventListener("change", listener);
    return () => this.removeEventListener("change", listener);
  }

  #take(overview) {
    this.overview = overview;
    this.#changed();
  }

  #merge({ pipeline, ...status }) {
    const one = this.pipeline(pipeline);
    if (one) Object.assign(one, status);
    this.#changed();
  }

  #scores({ pipeline, top, watches, resting, captured }) {
    const one = this.pipeline(pipeline);
    if (!one) return;
    Object.assign(one, { top, resting: resting ?? null, scored: captured });
    for (const watch of one.watches) {
      const [confidence, on] = watches[watch.name] ?? [watch.confidence, watch.on];
      if (on !== watch.on) watch.since = on ? captured : null;
      Object.assign(watch, { confidence, on });
    }
    this.#changed();
  }

  #train(training) {
    this.overview.training = ["finished", "failed", "cancelled"].includes(training.stage) ? null : training;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
