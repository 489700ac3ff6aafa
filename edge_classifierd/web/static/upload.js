// Pictures from files: scaled in the browser, sent two at a time, with each file's fate.
import { address, request } from "./api.js?v=__BUILD__";
import { S } from "./teach_text.js?v=__BUILD__";
import { button, fill, h, say } from "./ui.js?v=__BUILD__";

const MOST_PIXELS_A_SIDE = 1600;
const AT_ONCE = 2;

/** Return the files of a drop as [{folder: name or null, files}]. */
export async function files(transfer) {
  const loose = [];
  const found = [{ folder: null, files: loose }];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  for (const entry of entries) {
    if (entry.isFile) loose.push(await fileOf(entry));
    else found.push({ folder: entry.name, files: await inside(entry) });
  }
  return found.filter(({ files: some }) => some.length);
}

const fileOf = (entry) => new Promise((done, fail) => entry.file(done, fail));

async function inside(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return found;
    for (const entry of some) if (entry.isFile && /\.(jpe?g|png|webp|heic|avif|gif|bmp)$/i.test(entry.name)) found.push(await fileOf(entry));
  }
}

/** Return a JPEG of at most 1600 pixels a side, without the metadata of the file. */
async function scaled(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  const scale = Math.min(1, MOST_PIXELS_A_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
}

export class Uploads {
  element = h("section", { class: "card uploads", "aria-label": "Files", hidden: true });
  #model;
  #changed;
  #queue = [];
  #refused = [];
  #all = 0;
  #kept = 0;
  #similar = 0;
  #running = 0;
  #paused = false;
  #closed = false;
  #text = h("p", { class: "n", role: "status" });
  #list = h("ul", { class: "plain lines" });
  #pause = button("Pause", () => this.#toggle(), "s");
  #retry = button("Try again", () => this.#again(), "s");

  constructor(model, changed) {
    this.#model = model;
    this.#changed = changed;
    fill(this.element, h("div", { class: "row" }, this.#text, h("span", { class: "push row tight" }, this.#pause, this.#retry, button("Close", () => this.#done(), "quiet s"))), this.#list);
  }

  /** Send files into a class or to_sort. */
  add(where, some) {
    this.#queue.push(...some.map((file) => ({ where, file })));
    this.#all += some.length;
    this.#show();
    this.#go();
  }

  close() {
    this.#closed = true;
    this.#queue = [];
  }

  #toggle() {
    this.#paused = !this.#paused;
    this.#show();
    this.#go();
  }

  #again() {
    const some = this.#refused;
    this.#refused = [];
    this.#queue.push(...some);
    this.#go();
  }

  #done() {
    this.close();
    this.#closed = false;
    [this.#all, this.#kept, this.#similar, this.#refused] = [0, 0, 0, []];
    this.#show();
  }

  #go() {
    while (this.#running < AT_ONCE && this.#queue.length && !this.#paused) this.#send(this.#queue.shift());
  }

  async #send(one) {
    this.#running++;
    try {
      const body = await scaled(one.file).catch(() => {
        throw new Error(S.unreadable);
      });
      const answer = await request("POST", address(["taught", this.#model, "pictures"], { class: one.where }), { body });
      if (answer.kept === false) this.#similar++;
      else this.#kept++;
    } catch (error) {
      this.#refused.push({ ...one, reason: error.message });
    }
    this.#running--;
    if (this.#closed) return;
    this.#show();
    this.#go();
    if (!this.#running && !this.#queue.length) this.#changed();
  }

  #show() {
    const left = this.#queue.length + this.#running;
    this.element.hidden = !this.#all;
    say(this.#text, `${S.uploads(this.#all - left, this.#all)} · ${this.#kept} kept · ${this.#similar} too similar · ${this.#refused.length} refused`);
    say(this.#pause, this.#paused ? "Go on" : "Pause");
    this.#pause.hidden = !left;
    this.#retry.hidden = !this.#refused.length;
    fill(this.#list, this.#refused.slice(0, 20).map(({ file, reason }) => h("li", {}, h("span", {}, h("b", {}, file.name), ` ${reason}`))));
  }
}
