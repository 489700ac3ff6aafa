// The history of a watch's confidence, with a line to drag for its threshold.
import { get, put } from "./api.js?v=__BUILD__";
import { T, percent, time } from "./text.js?v=__BUILD__";
import { attempt, button, css, drag, fill, h, say, segments, toast } from "./ui.js?v=__BUILD__";

const SPANS = [["120", "2 min"], ["3600", "1 h"], ["86400", "24 h"]];
const LIVE_S = 120;
const TOP = 8;
const BOTTOM = 8;

/** Count how often a watch with this threshold would have gone on, and for how long. Peaks are null where nothing was classified. */
export function count(peaks, step, threshold, release) {
  let runs = 0;
  let steps = 0;
  let on = false;
  for (const peak of peaks) {
    if (peak === null) continue;
    const before = on;
    on = peak >= threshold || (on && peak >= release);
    if (on && !before) runs += 1;
    if (on) steps += 1;
  }
  return { runs, seconds: steps * step };
}

export class History {
  element;
  #pipeline;
  #watch = null;
  #span = 3600;
  #data = null;
  #live = [];
  #candidate = null;
  #saved = null;
  #canvas = h("canvas", { role: "img" });
  #slider;
  #field;
  #heading = h("h2", {});
  #summary = h("p", { class: "small" });
  #axis = h("p", { class: "axis tiny dim n" });
  #configured;
  #timer = 0;
  #resize = new ResizeObserver(() => this.#draw());
  #scheme = matchMedia("(prefers-color-scheme: dark)");
  #redraw = () => this.#draw();

  constructor(pipeline) {
    this.#pipeline = pipeline;
    this.#slider = h("div", { class: "handle n", role: "slider", tabindex: "0", "aria-orientation": "vertical", "aria-valuemin": "1", "aria-valuemax": "100" });
    this.#slider.addEventListener("pointerdown", (event) => this.#grab(event));
    this.#slider.addEventListener("keydown", (event) => this.#key(event));
    this.#field = h("input", { id: "threshold", class: "num n", type: "number", min: "1", max: "100", step: "any", inputmode: "decimal" });
    this.#field.addEventListener("input", () => this.#propose(this.#field.valueAsNumber / 100, true));
    this.#configured = button("As configured", () => this.#send(null), "quiet");
    const submit = (event) => {
      event.preventDefault();
      this.#send(this.#candidate);
    };
    this.element = h(
      "section",
      { class: "history" },
      h("div", { class: "row" }, this.#heading, h("span", { class: "push" }, segments("Time shown", SPANS, "3600", (span) => this.#choose(Number(span))))),
      h("div", { class: "plot" }, this.#canvas, this.#slider),
      this.#axis,
      this.#summary,
      h("form", { class: "row", novalidate: true, onsubmit: submit }, h("label", { for: "threshold", class: "small dim" }, "Threshold, %"), this.#field, h("button", { class: "btn main" }, "Set"), this.#configured),
    );
    this.#resize.observe(this.#canvas);
    this.#scheme.addEventListener("change", this.#redraw);
  }

  close() {
    clearTimeout(this.#timer);
    this.#resize.disconnect();
    this.#scheme.removeEventListener("change", this.#redraw);
  }

  /** Show a watch of the overview; called again after each change of it. */
  show(watch, overridden) {
    const other = this.#watch?.name !== watch.name;
    const moved = this.#saved !== watch.threshold;
    if (other) this.#live = [];
    this.#watch = watch;
    say(this.#heading, watch.name);
    this.#configured.hidden = !overridden;
    if (other || moved) {
      this.#saved = watch.threshold;
      this.#propose(watch.threshold);
    }
    if (other) this.#load();
  }

  /** Add a value that the stream brought. */
  add(confidence, on) {
    const now = Date.now() / 1000;
    this.#live.push([now, confidence, on]);
    while (this.#live[0][0] < now - LIVE_S) this.#live.shift();
    if (this.#span === LIVE_S) this.#draw();
  }

  #choose(span) {
    this.#span = span;
    this.#load();
  }

  async #load() {
    clearTimeout(this.#timer);
    if (!document.hidden) {
      try {
        this.#data = await get(["pipelines", this.#pipeline, "history"], { span: this.#span });
        this.#update();
      } catch { /* the link's banner reports it */ }
    }
    clearTimeout(this.#timer);
    if (this.element.isConnected) this.#timer = setTimeout(() => this.#load(), this.#span > 3600 ? 60000 : 10000);
  }

  #grab(event) {
    event.preventDefault();
    this.#slider.focus({ preventScroll: true });
    const value = ({ clientY }) => {
      const { top, height } = this.#canvas.getBoundingClientRect();
      return 1 - (clientY - top - TOP) / (height - TOP - BOTTOM);
    };
    const offset = this.#candidate - value(event); // the handle is seldom pressed in its middle
    drag(this.#slider, event, (now) => this.#propose(Math.round(100 * (value(now) + offset)) / 100));
  }

  #key(event) {
    const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -100, End: 100 };
    if (event.key === "Enter") this.#send(this.#candidate);
    else if (event.key === "Escape") this.#propose(this.#saved);
    else if (event.key in steps) this.#propose(Math.round(100 * this.#candidate + steps[event.key]) / 100);
    else return;
    event.preventDefault();
  }

  #propose(value, typed = false) {
    if (Number.isNaN(value)) return;
    this.#candidate = Math.min(1, Math.max(0.01, value));
    if (!typed) this.#field.value = String(Math.round(1000 * this.#candidate) / 10);
    this.#update();
  }

  async #send(value) {
    const { name, threshold } = this.#watch;
    const set = async (wanted) => {
      const { value: now, overridden } = await put(["pipelines", this.#pipeline, "watches", name, "threshold"], wanted);
      if (this.#watch.name === name) {
        this.#saved = this.#watch.threshold = now;
        this.#configured.hidden = !overridden;
        this.#propose(now);
      }
      return T.thresholdSet(name, now);
    };
    const back = () => attempt(async () => toast(await set(threshold)));
    await attempt(async () => toast(await set(value), back));
  }

  get #release() {
    return Math.min(this.#watch.release, this.#candidate);
  }

  #update() {
    if (!this.#watch) return;
    const { name } = this.#watch;
    const span = { 120: "2 min", 3600: "hour", 86400: "24 h" }[this.#span];
    const peaks = this.#data?.watches[name] ?? [];
    const { runs, seconds } = count(peaks, this.#data?.step_s ?? 1, this.#candidate, this.#release);
    const values = peaks.filter((peak) => peak !== null);
    const spoken = T.highest(name, values.length ? Math.max(...values) : null, span);
    const summary = T.thresholdSummary(this.#candidate, runs, seconds, span);
    say(this.#summary, values.length ? summary : "Nothing was classified in this time.");
    this.#canvas.setAttribute("aria-label", `${spoken}. ${summary}`);
    this.#slider.setAttribute("aria-label", `Threshold of ${name}`);
    this.#slider.setAttribute("aria-valuenow", Math.round(100 * this.#candidate));
    this.#slider.setAttribute("aria-valuetext", percent(this.#candidate));
    say(this.#slider, percent(this.#candidate));
    this.#draw();
  }

  #draw() {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width || !this.#watch) return;
    const scale = Math.min(3, devicePixelRatio);
    canvas.width = width * scale;
    canvas.height = height * scale;
    const plot = canvas.getContext("2d");
    plot.scale(scale, scale);
    const styles = getComputedStyle(canvas);
    const color = (name) => styles.getPropertyValue(`--${name}`).trim();
    const end = this.#data ? Date.parse(this.#data.end) / 1000 : Date.now() / 1000;
    const now = this.#span === LIVE_S && this.#live.length ? Math.max(end, Date.now() / 1000) : end;
    const x = (at) => width * (1 - (now - at) / this.#span);
    const y = (value) => TOP + (1 - value) * (height - TOP - BOTTOM);
    const band = (from, to, style) => {
      plot.fillStyle = style;
      plot.fillRect(x(from), TOP, Math.max(1, x(to) - x(from)), height - TOP - BOTTOM);
    };
    const line = (value, style, thick, dash = []) => {
      plot.strokeStyle = style;
      plot.lineWidth = thick;
      plot.setLineDash(dash);
      plot.beginPath();
      plot.moveTo(0, y(value));
      plot.lineTo(width, y(value));
      plot.stroke();
      plot.setLineDash([]);
    };
    line(0, color("line"), 1);
    line(1, color("line"), 1);
    if (this.#data) this.#bands(plot, band, color);
    line(this.#release, color("dim"), 1, [3, 4]);
    this.#curve(plot, x, y, end, color("accent"));
    line(this.#candidate, color("warm"), 2);
    css(this.#slider, { top: `${Math.min(height - 14, Math.max(14, y(this.#candidate)))}px` });
    const start = new Date((now - this.#span) * 1000).toISOString();
    fill(this.#axis, h("span", {}, time(start).slice(0, this.#span === LIVE_S ? 8 : 5)), h("span", {}, "now"));
  }

  #bands(plot, band, color) {
    const seconds = (iso) => (iso ? Date.parse(iso) / 1000 : Date.parse(this.#data.end) / 1000);
    const hatch = h("canvas", { width: 6, height: 6 });
    const pen = hatch.getContext("2d");
    pen.strokeStyle = color("line");
    pen.lineWidth = 2;
    pen.moveTo(-2, 8);
    pen.lineTo(8, -2);
    pen.stroke();
    for (const [from, to] of this.#data.resting ?? []) band(seconds(from), seconds(to), plot.createPattern(hatch, "repeat"));
    for (const [from, to] of this.#data.on?.[this.#watch.name] ?? []) band(seconds(from), seconds(to), color("soft"));
  }

  #curve(plot, x, y, end, style) {
    const { step_s: step = 1, watches = {} } = this.#data ?? {};
    const peaks = watches[this.#watch.name] ?? [];
    const points = peaks.map((peak, i) => [end - (peaks.length - 1 - i) * step, peak]);
    const live = this.#span === LIVE_S ? this.#live : [];
    const first = live[0]?.[0] ?? Infinity;
    plot.strokeStyle = style;
    plot.lineWidth = 2;
    plot.lineJoin = "round";
    plot.beginPath();
    let gap = true;
    for (const [at, value] of [...points.filter(([one]) => one < first), ...live]) {
      if (value === null) gap = true;
      else if (gap) {
        plot.moveTo(x(at) - 1, y(value));
        plot.lineTo(x(at), y(value));
        gap = false;
      } else plot.lineTo(x(at), y(value));
    }
    plot.stroke();
  }
}

