// Pictures as a grid of buttons, of which some can be chosen; moves of pictures, and their undoing.
import { address, get, post } from "./api.js?v=__BUILD__";
import { S, called, keyed } from "./teach_text.js?v=__BUILD__";
import { dateTime } from "./text.js?v=__BUILD__";
import { attempt, button, dialog, fill, h, toast } from "./ui.js?v=__BUILD__";

const MOST_IN_ONE_MOVE = 500;

export const image = (model, id, size = "thumb") => address(["taught", model, "pictures", `${id}.jpg`], { size });

/** Return the pictures of a class, of `to_sort` or of `bin`, newest first; `limit` pictures at most. */
export async function pictures(model, where, limit) {
  const found = [];
  while (found.length < limit) {
    const wanted = Math.min(200, limit - found.length);
    const some = await get(["taught", model, "pictures"], { class: where, after: found.at(-1)?.id, limit: wanted });
    found.push(...some);
    if (some.length < wanted) break;
  }
  return found;
}

/** Take back a change of pictures, without a step the last one. */
export async function undo({ name, changed }, step) {
  await attempt(async () => {
    const last = step ?? (await get(["taught", name])).newest_step;
    if (last === null) throw new Error(S.nothingToUndo);
    await post(["taught", name, "undo"], { step: last });
    await changed();
  }, S.undone);
}

/** Report a change, and offer to undo it. */
export const undoable = (context, step, text) => toast(text, step && (() => undo(context, step)));

/** Move pictures into a class, `to_sort` or `bin`; offer to undo it. Return whether it worked. */
export async function move(context, ids, to, name) {
  return attempt(async () => {
    for (let start = 0; start < ids.length; start += MOST_IN_ONE_MOVE) {
      const { step } = await post(["taught", context.name, "moves"], { pictures: ids.slice(start, start + MOST_IN_ONE_MOVE), to });
      undoable(context, step, to === "bin" ? S.binned(ids.length) : S.moved(ids.length, name));
    }
  });
}

/** The pictures that are chosen, in one or in several grids. */
export class Selection extends EventTarget {
  ids = new Set();

  set(ids, on = true) {
    for (const id of ids) on ? this.ids.add(id) : this.ids.delete(id);
    this.dispatchEvent(new Event("change"));
  }

  clear() {
    this.ids.clear();
    this.dispatchEvent(new Event("change"));
  }
}

/** A grid: a click chooses a picture, with Shift all up to it; dragging chooses what it passes. */
export class Grid {
  element = h("div", { class: "grid" });
  pictures = [];
  #model;
  #selection;
  #last = 0;
  #paints = true;

  constructor(model, selection, label = "") {
    this.#model = model;
    this.#selection = selection;
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", label);
    selection.addEventListener("change", () => this.#mark());
  }

  show(some) {
    this.pictures = some;
    const known = new Map([...this.element.children].map((one) => [one.dataset.id, one]));
    this.element.replaceChildren(...some.map((picture) => known.get(picture.id) ?? this.#cell(picture)));
    this.#mark();
  }

  #cell({ id, captured }) {
    const name = captured ? dateTime(captured) : S.picture;
    const cell = h("button", { type: "button", class: "cell", "data-id": id, "aria-pressed": "false", "aria-label": name }, h("img", { src: image(this.#model, id), alt: name, loading: "lazy", decoding: "async", draggable: "false" }));
    cell.addEventListener("click", (event) => this.#click(id, event.shiftKey));
    cell.addEventListener("dblclick", () => enlarge(this.#model, id, name));
    cell.addEventListener("pointerdown", (event) => {
      this.#paints = !this.#selection.ids.has(id);
      if (event.pointerType === "touch") cell.releasePointerCapture(event.pointerId);
    });
    cell.addEventListener("pointerleave", (event) => event.buttons === 1 && event.pointerType === "mouse" && this.#selection.set([id], this.#paints));
    cell.addEventListener("pointerenter", (event) => event.buttons === 1 && event.pointerType === "mouse" && this.#selection.set([id], this.#paints));
    return cell;
  }

  #click(id, range) {
    const at = this.pictures.findIndex((one) => one.id === id);
    const [from, to] = range ? [Math.min(at, this.#last), Math.max(at, this.#last)] : [at, at];
    this.#selection.set(this.pictures.slice(from, to + 1).map((one) => one.id), range || !this.#selection.ids.has(id));
    this.#last = at;
  }

  #mark() {
    for (const cell of this.element.children) cell.setAttribute("aria-pressed", this.#selection.ids.has(cell.dataset.id));
  }
}

export function enlarge(model, id, name) {
  dialog(name, h("img", { class: "full", src: image(model, id, "full"), alt: name }), h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn main" }, "Close")));
}

/** What can be done with the chosen pictures: `act(to)` moves them, `all()` chooses all. */
export function selectionBar(selection, context, act, all) {
  const bar = h("div", { class: "chosenbar", role: "group", "aria-label": S.chosenBar, hidden: true });
  selection.addEventListener("change", () => {
    const { size } = selection.ids;
    bar.hidden = !size;
    if (!size) return;
    fill(
      bar,
      h("b", {}, S.chosen(size)),
      button("Bin", () => act("bin"), "s"),
      all && button("All", all, "quiet s"),
      button("None", () => selection.clear(), "quiet s"),
      keyed(context.model).map((one) => button(S.to(called(one)), () => act(one.id), "s")),
    );
  });
  return bar;
}
