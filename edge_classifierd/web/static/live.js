// The page Live: a camera's picture with its region, the scores and their history.
import { address, post, put } from "./api.js?v=__BUILD__";
import { newest } from "./event_list.js?v=__BUILD__";
import { History } from "./history.js?v=__BUILD__";
import { Picture } from "./picture.js?v=__BUILD__";
import { T, absence, accelerator, duration, percent, time } from "./text.js?v=__BUILD__";
import { attempt, button, css, fill, h, notice, say, segments, toggle } from "./ui.js?v=__BUILD__";

const ANNOUNCE_MS = 5000;

/** A bar with a watch's confidence, threshold and release; the whole of it chooses the watch. */
class ScoreBar {
  element;
  #name;
  #pill = h("span", { class: "pill" });
  #value = h("span", { class: "v n" });
  #fill = h("i", {});
  #threshold = h("span", { class: "t" });
  #release = h("span", { class: "r" });
  #track;
  #button;

  constructor(name, onclick) {
    this.#name = name;
    this.#track = h("div", { class: "track", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100 }, this.#fill, this.#release, this.#threshold);
    this.#button = h("button", { type: "button", onclick }, name);
    this.element = h("li", { class: "score" }, h("div", { class: "top" }, this.#button, this.#pill, this.#value), this.#track);
  }

  show({ confidence, threshold, release, on, since }, chosen, stale) {
    const value = confidence ?? 0;
    this.element.classList.toggle("on", on);
    this.element.classList.toggle("stale", Boolean(stale));
    this.#button.setAttribute("aria-pressed", chosen);
    this.#pill.hidden = !on;
    say(this.#pill, since ? `on ${duration((Date.now() - Date.parse(since)) / 1000)}` : "on");
    say(this.#value, confidence === null ? "–" : percent(value));
    css(this.#fill, { width: `${100 * value}%` });
    css(this.#threshold, { left: `${100 * threshold}%` });
    css(this.#release, { left: `${100 * release}%` });
    this.#track.setAttribute("aria-valuenow", Math.round(100 * value));
    this.#track.setAttribute("aria-label", `Confidence of ${this.#name}, threshold ${percent(threshold)}`);
  }
}

/** One camera of the page Live. */
class Camera {
  element;
  #device;
  #name;
  #bars = new Map();
  #chosen = null;
  #refusal = null;
  #captured = null;
  #editor = null;
  #announced = new Map();
  #announcedAt = 0;
  #recent = 0;

  #canvas = h("canvas", { role: "img", "aria-label": T.waiting, width: 640, height: 480 });
  #region = h("div", { class: "frame" });
  #seen = h("div", { class: "frame dashed" });
  #veil = h("p", { class: "veil" });
  #stamp = h("span", { class: "tag n" });
  #note = h("span", { class: "tag right" });
  #stage = h("div", { class: "stage" }, this.#canvas, this.#region, this.#seen, this.#veil, this.#stamp, this.#note);
  #facts = h("p", { class: "facts n" });
  #notice = h("div", { class: "notices" });
  #offer = h("p", { class: "row" });
  #buttons;
  #panel = h("div", {});
  #top = h("p", { class: "small dim top" });
  #list = h("ul", { class: "plain scores" });
  #polite = h("p", { class: "offscreen", "aria-live": "polite" });
  #events = h("ol", { class: "plain" });
  #switch = toggle("camera on", (on) => this.#enable(on));
  #view = segments("Picture", [["full", "Whole picture"], ["region", "What the model gets"]], "full", (view) => this.#look(view));
  #lookNow = button("Look now", () => attempt(() => post(["pipelines", this.#name, "look"])));
  #picture;
  #history;

  constructor(device, name) {
    this.#device = device;
    this.#name = name;
    this.#picture = new Picture(this.#canvas, name, (state) => this.#seenPicture(state));
    this.#history = new History(name);
    const full = h("a", { class: "btn quiet wide", href: address(["pipelines", name, "snapshot.jpg"]), target: "_blank", rel: "noopener" }, "Full size");
    this.#buttons = h(
      "div",
      { class: "row" },
      button("Set region", () => this.edit()),
      button("Publish picture", () => attempt(() => post(["pipelines", name, "snapshot"]), T.pictureTaken)),
      this.#lookNow,
      full,
      h("span", { class: "push" }, this.#view),
    );
    this.element = h(
      "div",
      { class: "live" },
      h("section", { class: "card", "aria-label": "Picture" }, this.#notice, this.#stage, this.#panel, this.#facts, this.#buttons, this.#top),
      h("section", { class: "card", "aria-label": "Scores" }, h("div", { class: "row head" }, h("h2", {}, name), this.#switch.element), this.#offer, this.#list, this.#polite, this.#history.element),
      h("section", { class: "card last", "aria-label": "Last events" }, h("div", { class: "row head" }, h("h2", {}, "Last events"), h("a", { class: "push small", href: "#/events" }, "all events")), this.#events),
    );
    this.visibility = () => this.#picture.visibility();
    document.addEventListener("visibilitychange", this.visibility);
    this.update();
    this.recent();
  }

  close() {
    document.removeEventListener("visibilitychange", this.visibility);
    clearTimeout(this.#recent);
    this.#picture.stop();
    this.#history.close();
  }

  /** Read the last events again, once for several that come together. */
  recent() {
    clearTimeout(this.#recent);
    this.#recent = setTimeout(() => newest(this.#events, this.#name, 3).catch(() => {}), 500);
  }

  /** Show what the device knows of the pipeline. */
  update() {
    const one = this.#device.pipeline(this.#name);
    if (!one) return;
    const sentence = absence(one);
    const running = sentence === null;
    this.#picture.run(running);
    this.#switch.set(one.enabled);
    this.#lookNow.hidden = one.resting?.why !== "gate";
    this.#state(one, running, sentence);
    this.#frames(one, running);
    this.#scores(one, running && !one.resting);
    this.#tell(one, running);
    if (one.model?.taught || one.watches.every(({ labels }) => !labels)) this.#offers();
  }

  /** Teach where nothing is watched, and the way back after a change of a taught model. */
  async #offers() {
    const { offer } = await import("./taught.js?v=__BUILD__");
    offer(this.#offer, this.#device, this.#name);
  }

  /** Take a message `scores` of this pipeline. */
  score({ watches }) {
    const value = watches[this.#chosen];
    if (value) this.#history.add(...value);
    this.#announce(watches);
  }

  edit() {
    if (this.#editor) return;
    this.#look("full");
    const one = this.#device.pipeline(this.#name);
    const done = (answer) => {
      if (answer) this.#device.set(this.#name, { region: answer.value }, "region", answer.overridden);
      this.#editor.overlay.remove();
      this.#panel.replaceChildren();
      this.#editor = null;
      this.#buttons.hidden = false;
      this.#stage.classList.remove("edits");
      this.update();
      this.#buttons.querySelector("button").focus();
    };
    import("./region.js?v=__BUILD__").then(({ RegionEditor }) => {
      this.#editor = new RegionEditor(this.#name, one.region, one.overridden.includes("region"), done);
      this.#stage.append(this.#editor.overlay);
      this.#stage.classList.add("edits");
      this.#panel.replaceChildren(this.#editor.panel);
      this.#buttons.hidden = true;
      this.update();
      this.#editor.focus();
    });
  }

  async #enable(on) {
    const one = this.#device.pipeline(this.#name);
    // No picture is asked for any more, before the device refuses it.
    Object.assign(one, { enabled: one.enabled && on });
    this.update();
    await attempt(() => put(["pipelines", this.#name, "enabled"], on));
    this.#device.refresh().catch(() => {});
  }

  #look(view) {
    if (this.#picture.view === view) return;
    this.#picture.view = view;
    for (const one of this.#view.children) one.setAttribute("aria-pressed", one.dataset.value === view);
    this.#picture.restart();
    this.update();
  }

  #seenPicture(state) {
    this.#refusal = state.code ? state : null;
    if (state.captured) this.#captured = state;
    this.update();
  }

  #state(one, running, sentence) {
    const failed = running && this.#refusal && this.#refusal.code !== "link" ? (this.#refusal.code === "too_many_viewers" ? T.viewers : this.#refusal.message) : null;
    const shown = sentence && one.enabled && !one.resting ? sentence : failed;
    if (shown !== (this.#notice.firstChild?.textContent ?? null)) fill(this.#notice, shown && notice(shown));
    // What a camera that is off saw last is not shown; that of a broken one is, greyed, with its time.
    const blank = !one.enabled || (one.resting && one.resting.why !== "gate") || !this.#captured;
    this.#canvas.classList.toggle("blank", blank);
    this.#stage.classList.toggle("old", !running);
    say(this.#veil, blank ? (shown ? T.noPicture : sentence ?? T.waiting) : "");
    this.#veil.hidden = !blank;
    this.#stamp.hidden = blank;
    say(this.#stamp, this.#captured ? time(this.#captured.captured) : "");
    const note = one.resting?.why === "gate" ? T.gate + (one.resting.until ? ` · looks again ${time(one.resting.until)}` : "") : this.#captured?.slow ? T.slow : "";
    say(this.#note, note);
    this.#note.hidden = !note || !running;
  }

  #frames(one, running) {
    const place = (element, { x, y, width, height }) => css(element, { left: `${100 * x}%`, top: `${100 * y}%`, width: `${100 * width}%`, height: `${100 * height}%` });
    const whole = ({ x, y, width, height }) => x === 0 && y === 0 && width === 1 && height === 1;
    const drawn = this.#picture.view === "full" && Boolean(this.#captured) && one.enabled;
    this.#region.hidden = !drawn || Boolean(this.#editor) || whole(one.region);
    place(this.#region, one.region);
    this.#seen.hidden = !drawn || !one.seen || whole(one.seen) || !running;
    if (one.seen) place(this.#seen, one.seen);
  }

  #scores(one, fresh) {
    if (!one.watches.some(({ name }) => name === this.#chosen)) this.#chosen = one.watches[0]?.name ?? null;
    const names = one.watches.map(({ name }) => name);
    if (names.join("\n") !== [...this.#bars.keys()].join("\n")) {
      this.#bars = new Map(names.map((name) => [name, new ScoreBar(name, () => this.#choose(name))]));
      fill(this.#list, [...this.#bars.values()].map(({ element }) => element));
    }
    for (const watch of one.watches) this.#bars.get(watch.name).show(watch, watch.name === this.#chosen, !fresh);
    const chosen = one.watches.find(({ name }) => name === this.#chosen);
    this.#history.element.hidden = !chosen;
    if (chosen) this.#history.show(chosen, one.overridden.includes(`${chosen.name}.threshold`));
  }

  #choose(name) {
    this.#chosen = name;
    this.update();
  }

  #tell(one, running) {
    const fact = (value, text) => h("span", {}, h("b", {}, value), ` ${text}`);
    const facts = !running
      ? []
      : [one.fps !== null && fact(one.fps.toFixed(1), "pictures a second"), one.inference_ms !== null && fact(`${one.inference_ms.toFixed(1)} ms`, accelerator(one.accelerator)), one.model && h("span", { class: "wide" }, "model ", h("b", {}, one.model.name))];
    fill(this.#facts, facts);
    const stale = one.resting && one.scored ? ` (${T.asOf(one.scored)})` : "";
    const [best, ...others] = one.top ?? [];
    fill(this.#top, best && running && ["Best guesses: ", h("b", {}, `${best.label} ${percent(best.confidence)}`), others.slice(0, 2).map(({ label, confidence }) => ` · ${label} ${percent(confidence)}`), stale]);
  }

  /** Read out what went on or off, at most every 5 seconds; never scores. */
  #announce(watches) {
    const changed = Object.entries(watches).filter(([name, [, on]]) => this.#announced.has(name) && this.#announced.get(name) !== on);
    if (this.#announced.size && (!changed.length || Date.now() - this.#announcedAt < ANNOUNCE_MS)) return;
    for (const [name, [, on]] of Object.entries(watches)) this.#announced.set(name, on);
    if (!changed.length) return;
    this.#announcedAt = Date.now();
    say(this.#polite, changed.map(([name, [, on]]) => `${name} ${on ? "on" : "off"}`).join(", "));
  }
}

export async function open(main, { device, stream }, name) {
  const shown = device.pipeline(name) ?? device.pipelines[0];
  if (!shown) {
    fill(main, h("h1", {}, "Live"), notice(T.nothingWatched));
    return () => {};
  }
  const camera = new Camera(device, shown.name);
  const chips = h("nav", { class: "chips", "aria-label": "Cameras" });
  const viewers = h("span", { class: "push small dim wide" });
  const update = () => {
    const names = device.pipelines.map(({ name: one }) => one);
    if (names.join("\n") !== [...chips.children].map(({ textContent }) => textContent).join("\n")) {
      fill(chips, names.map((one) => h("a", { class: "chip", href: `#/live/${encodeURIComponent(one)}`, "aria-current": one === shown.name && "page" }, one)));
    }
    const now = device.overview.viewers?.now ?? 0;
    say(viewers, now > 1 ? `${now} looking on` : "");
    camera.update();
  };
  fill(main, h("h1", { class: "offscreen" }, `Live: ${shown.name}`), h("div", { class: "row" }, chips, viewers), camera.element);
  update();
  const clock = setInterval(update, 1000);
  const off = [
    device.watch(update),
    stream.on("scores", (scores) => scores.pipeline === shown.name && camera.score(scores)),
    stream.on("event", (event) => event.pipeline === shown.name && camera.recent()),
  ];
  stream.open(shown.name);
  const close = () => {
    clearInterval(clock);
    off.forEach((one) => one());
    camera.close();
  };
  close.keys = { r: () => camera.edit() };
  return close;
}
