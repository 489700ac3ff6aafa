// The editor of a pipeline's region: by mouse, finger, keys and number fields. It covers the live picture.
import { put } from "./api.js?v=__BUILD__";
import { T } from "./text.js?v=__BUILD__";
import { attempt, button, copy, css, drag, h } from "./ui.js?v=__BUILD__";

const LEAST = 0.05;
const SIDES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const FIELDS = [["x", "Left"], ["y", "Top"], ["width", "Width"], ["height", "Height"]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
const round = (value) => Math.round(value * 1000) / 1000;

/** Return the region with its edges moved; `sides` names those that move, none of them moves the whole. */
export function moved({ x, y, width, height }, sides, dx, dy) {
  if (!sides) return { x: round(clamp(x + dx, 0, 1 - width)), y: round(clamp(y + dy, 0, 1 - height)), width, height };
  const edge = { left: x, right: x + width, top: y, bottom: y + height };
  if (sides.includes("w")) edge.left = clamp(edge.left + dx, 0, edge.right - LEAST);
  if (sides.includes("e")) edge.right = clamp(edge.right + dx, edge.left + LEAST, 1);
  if (sides.includes("n")) edge.top = clamp(edge.top + dy, 0, edge.bottom - LEAST);
  if (sides.includes("s")) edge.bottom = clamp(edge.bottom + dy, edge.top + LEAST, 1);
  const [left, top] = [round(edge.left), round(edge.top)];
  return { x: left, y: top, width: round(edge.right - left), height: round(edge.bottom - top) };
}

export class RegionEditor {
  /** Covers the picture. */
  overlay;
  /** Fields and buttons, below the picture. */
  panel;
  #name;
  #region;
  #rectangle;
  #light = h("i", {});
  #fields = {};
  #done;

  /** `done(answer)` is called with the device's answer when the region was set, `done()` when the editor was left. */
  constructor(name, region, overridden, done) {
    this.#name = name;
    this.#region = region;
    this.#done = done;
    const handles = SIDES.map((side) =>
      h("span", { class: `grip ${side}`, "data-side": side, tabindex: side === "se" ? "0" : null, role: side === "se" ? "button" : null, "aria-label": side === "se" ? "Size of the region, arrow keys" : null }),
    );
    this.#rectangle = h("div", { class: "rectangle", tabindex: "0", role: "group", "aria-label": "Region, arrow keys move it" }, handles);
    this.overlay = h("div", { class: "editor" }, h("div", { class: "shade" }, this.#light), this.#rectangle);
    this.overlay.addEventListener("pointerdown", (event) => this.#grab(event));
    this.overlay.addEventListener("keydown", (event) => this.#key(event));
    const fields = FIELDS.map(([key, label]) => {
      const input = h("input", { class: "num n", type: "number", min: key.length > 1 ? 100 * LEAST : 0, max: 100, step: "any", inputmode: "decimal" });
      input.addEventListener("change", () => this.#typed(key, input.valueAsNumber / 100));
      this.#fields[key] = input;
      return h("label", { class: "field" }, h("span", {}, `${label}, %`), input);
    });
    this.panel = h(
      "div",
      { class: "regionpanel" },
      h("p", { class: "small dim" }, T.regionHelp),
      h("div", { class: "row fields" }, fields),
      h("div", { class: "row" }, button("Set", () => this.#set(this.#region), "main"), button("Cancel", () => done()), overridden && button("As configured", () => this.#set(null), "quiet"), button("Copy as YAML", () => copy(this.#yaml(), T.copied), "quiet")),
    );
    this.panel.addEventListener("keydown", (event) => event.key === "Escape" && done());
    this.#show(region);
  }

  focus() {
    this.#rectangle.focus();
  }

  #show(region) {
    this.#region = region;
    for (const [key, property] of [["x", "left"], ["y", "top"], ["width", "width"], ["height", "height"]]) {
      for (const element of [this.#rectangle, this.#light]) css(element, { [property]: `${100 * region[key]}%` });
      this.#fields[key].value = String(round(100 * region[key]));
    }
  }

  #typed(key, value) {
    if (Number.isNaN(value)) return this.#show(this.#region);
    const region = { ...this.#region, [key]: round(clamp(value, key.length > 1 ? LEAST : 0, key.length > 1 ? 1 : 1 - LEAST)) };
    region.width = round(Math.min(region.width, 1 - region.x));
    region.height = round(Math.min(region.height, 1 - region.y));
    return this.#show(region);
  }

  #grab(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    // Where the picture is now: the page may move under the pointer, for example when the link to the device is lost.
    const at = ({ clientX, clientY }) => {
      const box = this.overlay.getBoundingClientRect();
      return [clamp((clientX - box.left) / box.width, 0, 1), clamp((clientY - box.top) / box.height, 0, 1)];
    };
    const [startX, startY] = at(event);
    const start = this.#region;
    const sides = event.target.dataset.side ?? "";
    const draws = event.target === this.overlay;
    this.#rectangle.focus({ preventScroll: true });
    drag(this.overlay, event, (now) => {
      const [x, y] = at(now);
      if (!draws) return this.#show(moved(start, sides, x - startX, y - startY));
      const drawn = { x: Math.min(x, startX), y: Math.min(y, startY), width: Math.abs(x - startX), height: Math.abs(y - startY) };
      return drawn.width >= LEAST && drawn.height >= LEAST && this.#show(moved(drawn, "nw", 0, 0));
    });
  }

  #key(event) {
    if (event.key === "Escape") return this.#done();
    if (event.key === "Enter") return this.#set(this.#region);
    if (!(event.key in ARROWS)) return null;
    event.preventDefault();
    const [x, y] = ARROWS[event.key];
    const step = event.shiftKey ? 0.05 : 0.01;
    return this.#show(moved(this.#region, event.target.dataset.side ?? "", x * step, y * step));
  }

  async #set(region) {
    const route = ["pipelines", this.#name, "region"];
    let answer;
    const set = async () => (answer = await put(route, region));
    if (await attempt(set, T.regionSet)) this.#done(answer);
  }

  #yaml() {
    const { x, y, width, height } = this.#region;
    return `region: {x: ${x}, y: ${y}, width: ${width}, height: ${height}}`;
  }
}
