// Records pictures of a class on the device: while a button or key is held, or for ten seconds after a tap.
import { post, remove, request, address } from "./api.js?v=__BUILD__";
import { S } from "./teach_text.js?v=__BUILD__";
import { toast } from "./ui.js?v=__BUILD__";

const TAP_MS = 250;
const ALIVE_MS = 600;
const COUNTDOWN_S = 3;
const AFTER_A_TAP_S = 10;

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export class Recorder extends EventTarget {
  /** The camera that pictures are taken from. */
  pipeline;
  /** 'region', or 'full' for the whole picture. */
  view = "region";
  /** 'idle', 'pressed', 'counting' or 'recording'. */
  what = "idle";
  /** The id of the class. */
  class = null;
  kept = 0;
  similar = 0;
  /** Seconds until a recording begins or ends by itself. */
  left = null;
  #model;
  #timer = 0;
  #stop = null;
  #held = false;

  constructor(model, pipeline) {
    super();
    this.#model = model;
    this.pipeline = pipeline;
    this.blur = () => this.#held && this.release();
    this.hidden = () => document.hidden && this.end();
    addEventListener("blur", this.blur);
    document.addEventListener("visibilitychange", this.hidden);
  }

  close() {
    removeEventListener("blur", this.blur);
    document.removeEventListener("visibilitychange", this.hidden);
    this.end();
  }

  /** A button or key of a class goes down. */
  press(id) {
    if (this.what !== "idle") return this.end();
    this.class = id;
    this.#held = true;
    this.#show({ what: "pressed", left: null });
    this.#timer = setTimeout(() => this.#record(Infinity), TAP_MS);
    return null;
  }

  /** It goes up again. */
  release() {
    const held = this.#held;
    this.#held = false;
    if (this.what === "pressed") this.#count(COUNTDOWN_S);
    else if (held) this.end();
  }

  /** Press and release at once. */
  tap(id) {
    this.press(id);
    this.release();
  }

  end() {
    clearTimeout(this.#timer);
    this.#held = false;
    if (this.#stop) this.#stop();
    else if (this.what !== "idle") this.#show({ what: "idle", left: null });
  }

  #count(left) {
    clearTimeout(this.#timer);
    if (left === 0) return this.#record(AFTER_A_TAP_S);
    this.#show({ what: "counting", left });
    this.#timer = setTimeout(() => this.#count(left - 1), 1000);
    return null;
  }

  async #record(seconds) {
    let over = false;
    const stopped = new Promise((done) => (this.#stop = () => done((over = true))));
    this.#show({ what: "recording", kept: 0, similar: 0, left: Number.isFinite(seconds) ? seconds : null });
    const route = ["taught", this.#model, "recordings"];
    let id = null;
    try {
      ({ id } = await post(route, { class: this.class, pipeline: this.pipeline, view: this.view }));
      const start = Date.now();
      while (!over && Date.now() - start < seconds * 1000) {
        await Promise.race([sleep(ALIVE_MS), stopped]);
        if (over) break;
        const { kept, similar, ended } = await request("PUT", address([...route, id]));
        this.#show({ kept, similar, left: this.left === null ? null : Math.max(0, Math.round(seconds - (Date.now() - start) / 1000)) });
        // It ends by itself at 100 pictures, after 60 seconds, or with the sentence of a failure.
        if (ended?.includes(" ")) throw new Error(ended);
        if (ended) break;
      }
    } catch (error) {
      toast(error.message);
    }
    let step = null;
    if (id !== null) {
      const answer = await remove([...route, id]).catch(() => ({}));
      step = answer.step ?? null;
      this.kept = answer.kept ?? this.kept;
      this.similar = answer.similar ?? this.similar;
    }
    this.#stop = null;
    this.#held = false;
    this.#show({ what: "idle", left: null });
    if (id !== null) this.dispatchEvent(new CustomEvent("recorded", { detail: { step, class: this.class, text: S.recorded(this.kept, this.similar) } }));
  }

  #show(values) {
    Object.assign(this, values);
    this.dispatchEvent(new Event("change"));
  }
}

/** Let a button record while it is held; `id()` is its class. */
export function holds(button, recorder, id) {
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    recorder.press(id());
  });
  for (const type of ["pointerup", "pointercancel"]) button.addEventListener(type, () => recorder.release());
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  // Neither a pointer nor Space: Enter, or a screen reader.
  button.addEventListener("click", (event) => event.detail === 0 && recorder.tap(id()));
}
