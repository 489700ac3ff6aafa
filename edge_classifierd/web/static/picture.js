// Shows a camera's pictures: the next one is asked for when the last one is decoded. A hidden tab asks for none.
import { address, request } from "./api.js?v=__BUILD__";
import { time } from "./text.js?v=__BUILD__";
import { css } from "./ui.js?v=__BUILD__";

const WIDTHS = [320, 640, 960];
const SLOW_MS = 800;

const sleep = (ms, signal) =>
  new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()));
  });

export class Picture {
  /** 'full' for the whole picture, 'region' for what the model gets. */
  view = "full";
  #canvas;
  #name;
  #onstate;
  #control = null;
  #wanted = false;
  #after = 0;
  #slow = 0;

  /** `onstate({code, message, slow, captured})` is called after each picture and each refusal. */
  constructor(canvas, name, onstate) {
    this.#canvas = canvas;
    this.#name = name;
    this.#onstate = onstate;
  }

  /** Show pictures or stop; the last picture stays. */
  run(wanted) {
    this.#wanted = wanted;
    const now = wanted && !document.hidden;
    if (now === Boolean(this.#control)) return;
    if (!now) this.stop();
    else this.#loop((this.#control = new AbortController()).signal);
  }

  /** To be called when the tab is shown or hidden. */
  visibility() {
    this.run(this.#wanted);
  }

  stop() {
    this.#control?.abort();
    this.#control = null;
  }

  /** Ask for the next picture at once, in another view. */
  restart() {
    this.#after = 0;
    this.stop();
    this.run(this.#wanted);
  }

  async #loop(signal) {
    while (!signal.aborted) {
      try {
        await this.#next(signal);
      } catch (error) {
        if (signal.aborted || error.name === "AbortError") return;
        this.#onstate({ code: error.code, message: error.message });
        await sleep(error.code === "too_many_viewers" ? 5000 : 2000, signal);
      }
      if (navigator.connection?.saveData) await sleep(1000, signal);
    }
  }

  async #next(signal) {
    const query = { after: this.#after || null, width: this.#width(), view: this.view };
    const response = await request("GET", address(["pipelines", this.#name, "frame.jpg"], query), { raw: true, signal });
    if (response.status === 204) return;
    const start = performance.now();
    const blob = await response.blob();
    this.#slow = performance.now() - start > SLOW_MS ? 20 : Math.max(0, this.#slow - 1);
    const bitmap = await createImageBitmap(blob);
    if (signal.aborted) return;
    this.#after = Number(response.headers.get("X-Frame"));
    const captured = response.headers.get("X-Captured");
    this.#draw(bitmap, captured);
    this.#onstate({ code: null, slow: this.#slow > 0, captured });
  }

  #draw(bitmap, captured) {
    const canvas = this.#canvas;
    if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
      canvas.width = bitmap.width;
      canvas.height = bitmap.height;
      css(canvas.parentElement, { "--ratio": bitmap.width / bitmap.height });
    }
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    canvas.setAttribute("aria-label", `${this.#name}, ${time(captured)}`);
  }

  #width() {
    if (this.#slow > 0) return WIDTHS[0];
    const wanted = this.#canvas.clientWidth * Math.min(2, devicePixelRatio);
    return WIDTHS.find((width) => width >= wanted * 0.8) ?? WIDTHS.at(-1);
  }
}
