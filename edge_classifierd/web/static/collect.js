// Teach, step 1: the camera, the classes with their pictures, and the ways in which pictures come to them.
import { address, post, remove, request } from "./api.js?v=__BUILD__";
import { Grid, Selection, move, pictures, selectionBar, undo, undoable } from "./grid.js?v=__BUILD__";
import { Picture } from "./picture.js?v=__BUILD__";
import { Recorder, holds } from "./record.js?v=__BUILD__";
import { link } from "./teach.js?v=__BUILD__";
import { S, called, keyed } from "./teach_text.js?v=__BUILD__";
import { Uploads, files } from "./upload.js?v=__BUILD__";
import { T, absence } from "./text.js?v=__BUILD__";
import { attempt, button, css, dialog, fill, h, say, segments, select, toast } from "./ui.js?v=__BUILD__";

const ENOUGH = 20;
const SHOWN = 16;

/** Ask for a text; resolve with it, or with null. */
function ask(title, value, sentence) {
  return new Promise((done) => {
    const field = h("input", { type: "text", value, maxlength: 60, "aria-label": title });
    const box = dialog(title, h("form", { method: "dialog", onsubmit: () => done(field.value.trim() || null) }, h("h2", {}, title), h("p", { class: "small" }, sentence), h("div", { class: "row" }, field, h("button", { class: "btn main" }, "OK"))));
    box.addEventListener("close", () => done(null));
    field.select();
  });
}

/** Ask whether to go on; resolve with the answer. */
export function confirmed(question, label) {
  return new Promise((done) => {
    const yes = h("button", { class: "btn main", value: "yes" }, label);
    const box = dialog(label, h("p", {}, question), h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn" }, "Cancel"), yes));
    box.addEventListener("close", () => done(box.returnValue === "yes"));
  });
}

/** A class: its pictures, what it still needs, and its button. */
class Column {
  element;
  id;
  name;
  all = false;
  #collect;
  #count = null;
  #title;
  #facts = h("p", { class: "small dim n" });
  #meter = h("i", {});
  #advice = h("p", { class: "advice" });
  #more = button("All", () => this.#showAll(), "quiet s");
  #hold;
  #grid;

  constructor(collect, one) {
    this.#collect = collect;
    this.id = one.id;
    this.#title = h("h2", { id: `class-${one.id}` });
    this.#hold = h("button", { type: "button", class: "btn hold", "aria-describedby": this.#title.id }, S.hold);
    this.#grid = new Grid(collect.name, collect.selection);
    holds(this.#hold, collect.recorder, () => one.id);
    const chosen = h("input", { type: "file", multiple: true, accept: "image/*", hidden: true });
    chosen.addEventListener("change", () => {
      collect.uploads.add(one.id, [...chosen.files]);
      chosen.value = "";
    });
    const tools = h("div", { class: "row tight" }, button("Files", () => chosen.click(), "quiet s"), button("Rename", () => this.#rename(), "quiet s"), button("Remove", () => this.#remove(), "quiet s"), chosen);
    this.element = h("section", { class: "card column", "data-class": one.slug }, this.#title, this.#facts, h("div", { class: "meter" }, this.#meter), this.#hold, this.#grid.element, this.#more, this.#advice, tools);
    drop(this.element, async (event) => collect.uploads.add(one.id, (await files(event.dataTransfer)).flatMap(({ files: some }) => some)));
  }

  show(one) {
    const { unknown, pictures: count, recordings, enough, advice } = one;
    this.name = called(one);
    this.unknown = unknown;
    for (const labelled of [this.element, this.#grid.element]) labelled.setAttribute("aria-label", this.name);
    fill(this.#title, h("span", {}, this.name), one.key && h("kbd", {}, one.key));
    say(this.#facts, S.gathered(one));
    css(this.#meter, { width: `${Math.min(100, (100 * count) / ENOUGH) * (recordings > 1 || enough ? 1 : 0.7)}%` });
    say(this.#advice, advice ?? "");
    this.#advice.classList.toggle("good", Boolean(enough));
    this.#more.hidden = this.all || count <= SHOWN;
    say(this.#more, `All ${count}`);
    if (count !== this.#count) this.load();
    this.#count = count;
  }

  async load() {
    this.#grid.show(await pictures(this.#collect.name, this.id, this.all ? Infinity : SHOWN));
  }

  recording({ what, class: id, kept, left }) {
    const mine = id === this.id && what !== "idle";
    this.#hold.classList.toggle("rec", mine && what === "recording");
    say(this.#hold, !mine || what === "pressed" ? S.hold : what === "counting" ? S.counting(left) : S.running(kept, left));
    this.#hold.disabled = what !== "idle" && !mine;
  }

  async choose() {
    await this.#showAll();
    this.#collect.selection.set(this.#grid.pictures.map(({ id }) => id));
  }

  async #showAll() {
    this.all = true;
    this.#more.hidden = true;
    await this.load();
  }

  async #rename() {
    const name = await ask("Rename", this.name, S.rename);
    if (name) await attempt(() => request("PATCH", address(["taught", this.#collect.name, "classes", this.id]), { body: { name } }));
    this.#collect.changed();
  }

  async #remove() {
    if (!(await confirmed([S.removeClass(this.name, this.#count), this.unknown ? S.removeUnknown : ""].join(" "), "Remove"))) return;
    await attempt(async () => {
      const answer = await remove(["taught", this.#collect.name, "classes", this.id]);
      undoable(this.#collect.context, answer.step, S.removed(this.name));
    });
    this.#collect.changed();
  }
}

/** Take files that are dropped on an element. */
function drop(element, take) {
  for (const type of ["dragover", "dragleave", "drop"]) {
    element.addEventListener(type, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      element.classList.toggle("over", type === "dragover");
      if (type === "drop") take(event);
    });
  }
}

class Collect {
  name;
  selection = new Selection();
  recorder;
  uploads;
  context;
  #columns = new Map();
  #chosen = null;
  #picture = null;
  #canvas = h("canvas", { role: "img", "aria-label": T.waiting, width: 640, height: 480 });
  #veil = h("p", { class: "veil" });
  #tag = h("span", { class: "tag" });
  #chips = h("div", { class: "chips narrowonly", role: "group", "aria-label": "Class" });
  #hold = h("button", { type: "button", class: "btn hold narrowonly" }, S.hold);
  #tally = h("p", { class: "row tight n" });
  #train = h("button", { type: "button", class: "btn main tall" });
  #missing = h("ul", { class: "plain advice" });
  #view = segments("Picture", [["region", "Region"], ["full", "Whole picture"]], "region", (view) => this.#chooseView(view));
  #viewHelp = h("p", { class: "small dim" }, S.wholeHelp);
  #sort = h("section", { class: "card row sortcard" });
  #list = h("div", { class: "columns" });
  #last = null;

  constructor(body, context) {
    this.context = context;
    this.name = context.name;
    const { device, model } = context;
    const camera = device.pipeline(model.pipeline)?.name ?? device.pipelines[0]?.name ?? null;
    this.recorder = new Recorder(this.name, camera);
    this.uploads = new Uploads(this.name, () => this.changed());
    this.recorder.addEventListener("change", () => this.#recording());
    this.recorder.addEventListener("recorded", ({ detail }) => this.#recorded(detail));
    holds(this.#hold, this.recorder, () => this.#chosen);
    this.#train.addEventListener("click", () => (location.hash = link(this.name, "train")));
    const choice = device.pipelines.length > 1 ? select("Camera", this.#cameras(camera), (value) => this.#look(value)) : null;
    const bar = selectionBar(this.selection, context, (to) => this.#move(to));
    fill(
      body,
      h(
        "div",
        { class: "teach" },
        h("section", { class: "card aim", "aria-label": "Camera" }, h("div", { class: "stage" }, this.#canvas, this.#veil, this.#tag), this.#chips, this.#hold, this.#tally, h("p", { class: "small dim" }, S.move), choice, this.#view, this.#viewHelp, h("div", { class: "trainbox" }, this.#train, this.#missing)),
        h("div", {}, this.#sort, this.uploads.element, this.#list, h("p", { class: "row tight" }, h("a", { class: "btn quiet s", href: link(this.name, "bin") }, "Bin"), button("Bring in collected", () => attempt(() => this.#bringIn()), "quiet s"), h("a", { class: "btn quiet s", href: address(["taught", this.name, "export.zip"]), download: true }, "Export"), button("Rename", () => this.#renameModel(), "quiet s"), button("Remove", () => this.#removeModel(), "quiet s"))),
      ),
      bar,
    );
    this.#look(camera);
    this.show();
  }

  changed = () => this.context.changed().catch(() => {});

  show() {
    const { model } = this.context;
    const classes = keyed(model);
    const known = this.#columns;
    this.#columns = new Map(classes.map((one) => [one.id, known.get(one.id) ?? new Column(this, one)]));
    if (!this.#columns.has(this.#chosen)) this.#chosen = classes[0]?.id ?? null;
    const order = [...this.#columns.values()].map(({ element }) => element);
    if (order.some((element, i) => this.#list.children[i] !== element) || this.#list.children.length !== order.length + 1) fill(this.#list, order, this.#list.querySelector(".adding") ?? this.#adding());
    for (const one of classes) this.#columns.get(one.id).show(one);
    fill(this.#chips, classes.map((one) => h("button", { type: "button", class: "chip", "aria-pressed": one.id === this.#chosen, onclick: () => this.#choose(one.id) }, called(one), h("span", { class: "tiny n" }, one.pictures))), h("button", { type: "button", class: "chip", "aria-label": "Add a class", onclick: () => this.#list.querySelector(".adding input").focus() }, "+"));
    this.#choose(this.#chosen);
    say(this.#train, S.train(model.seconds_estimate));
    this.#train.disabled = !model.can_train;
    const once = model.can_train ? classes.filter(({ recordings }) => recordings === 1).map(called) : [];
    const notes = [...(model.missing ? [model.missing] : []), ...(once.length ? [S.estimate(once)] : []), ...(model.corrections && model.in_use ? [S.corrections(model.corrections, model.in_use)] : [])];
    fill(this.#missing, notes.map((one) => h("li", {}, one)));
    this.#sort.hidden = !model.to_sort;
    fill(this.#sort, h("div", {}, h("b", {}, S.toSort(model.to_sort)), h("div", { class: "small dim" }, S.inGroups(model.to_sort_groups), h("span", { class: "wide" }, S.sortHelp))), h("a", { class: "btn push", href: link(this.name, "sort") }, "Sort them"));
  }

  keys() {
    const press = (id) => id && this.recorder.press(id);
    const keys = {
      " ": { down: () => press(this.#chosen), up: () => this.recorder.release() },
      a: () => this.#columns.get(this.#chosen)?.choose(),
      t: () => !this.#train.disabled && this.#train.click(),
      Delete: () => this.#move("bin"),
      "Ctrl+z": () => undo(this.context),
      Escape: () => (this.recorder.what === "idle" ? this.selection.clear() : this.recorder.end()),
    };
    for (const key of "0123456789") {
      keys[key] = {
        down: () => {
          const one = keyed(this.context.model).find((some) => some.key === key);
          if (!one) return;
          if (this.selection.ids.size) this.#move(one.id);
          else {
            this.#choose(one.id);
            press(one.id);
          }
        },
        up: () => this.recorder.release(),
      };
    }
    return keys;
  }

  close() {
    document.removeEventListener("visibilitychange", this.visibility);
    this.#picture?.stop();
    this.recorder.close();
    this.uploads.close();
    clearInterval(this.ticking);
  }

  #cameras(first) {
    const names = this.context.device.pipelines.map(({ name }) => name);
    return [first, ...names.filter((one) => one !== first)].map((one) => [one, one]);
  }

  #look(camera) {
    this.#picture?.stop();
    this.recorder.pipeline = camera;
    if (!camera) return;
    this.#picture = new Picture(this.#canvas, camera, (state) => say(this.#veil, state.code ? state.message : ""));
    this.#picture.view = this.recorder.view;
    this.visibility ??= () => this.#picture.visibility();
    document.addEventListener("visibilitychange", this.visibility);
    this.runs();
    this.context.stream.open(camera);
  }

  /** Show the camera's picture while there is one. */
  runs() {
    const one = this.context.device.pipeline(this.recorder.pipeline);
    const missing = one ? absence(one) : T.noPicture;
    this.#picture?.run(missing === null);
    if (missing !== null) say(this.#veil, missing);
    this.#veil.hidden = missing === null;
    const { x = 0, y = 0, width = 1, height = 1 } = one?.region ?? {};
    const whole = x === 0 && y === 0 && width === 1 && height === 1;
    this.#view.hidden = whole;
    if (whole && this.recorder.view !== "region") this.#view.firstChild.click();
    this.#viewHelp.hidden = this.recorder.view === "region";
    say(this.#tag, [one?.name, whole ? null : this.recorder.view === "region" ? "region" : "whole picture"].filter(Boolean).join(" · "));
  }

  /** Show and record the camera's `region`, or its `full` picture. */
  #chooseView(view) {
    this.recorder.view = view;
    if (!this.#picture) return;
    this.#picture.view = view;
    this.#picture.restart();
    this.runs();
  }

  #choose(id) {
    this.#chosen = id;
    [...this.#columns.values()].forEach((column, i) => {
      column.element.classList.toggle("chosen", column.id === id);
      this.#chips.children[i]?.setAttribute("aria-pressed", column.id === id);
    });
  }

  async #move(to) {
    const ids = [...this.selection.ids];
    if (!ids.length) return;
    await move(this.context, ids, to, this.#columns.get(to)?.name);
    this.selection.clear();
    await this.changed();
  }

  #recording() {
    const { what, class: id, kept, similar, left } = this.recorder;
    if (what !== "idle" && id !== this.#chosen) this.#choose(id); // Space records it again
    for (const column of this.#columns.values()) column.recording(this.recorder);
    this.#hold.classList.toggle("rec", what === "recording");
    say(this.#hold, what === "recording" ? (left === null ? S.letGo : S.running(kept, left)) : what === "counting" ? S.counting(left) : S.hold);
    if (what === "recording") fill(this.#tally, h("b", {}, this.#columns.get(id)?.name), h("span", { class: "pill" }, `${kept} kept`), h("span", { class: "small dim" }, S.similar(similar)));
    if (kept !== this.#last && kept) this.#columns.get(id)?.load();
    this.#last = kept;
  }

  #recorded({ step, text }) {
    undoable(this.context, step, text);
    this.changed();
  }

  #adding() {
    const name = h("input", { type: "text", maxlength: 60, placeholder: "its name", "aria-label": "Name of the class", required: true });
    const add = (called) => post(["taught", this.name, "classes"], { name: called });
    const submit = async (event) => {
      event.preventDefault();
      const called = name.value.trim();
      if (!called || !(await attempt(async () => (this.#chosen = (await add(called)).id)))) return;
      name.value = "";
      await this.changed();
      name.focus();
    };
    const form = h("form", { class: "card column adding", onsubmit: submit }, h("h2", {}, "Add a class"), name, h("button", { class: "btn" }, "Add"), h("p", { class: "advice" }, S.orFiles));
    drop(form, async (event) => {
      for (const { folder, files: some } of await files(event.dataTransfer)) {
        const column = [...this.#columns.values()].find((one) => one.name.toLowerCase() === folder?.toLowerCase());
        if (!folder) this.uploads.add("to_sort", some);
        else await attempt(async () => this.uploads.add(column?.id ?? (await add(folder)).id, some));
      }
      this.changed();
    });
    return form;
  }

  /** Take over what the camera has collected, to be sorted; a few pictures at a time. */
  async #bringIn() {
    let all = 0;
    for (let left = 1, taken = 1; left && taken; all += taken) ({ left, taken } = await post(["taught", this.name, "collected"]));
    toast(S.broughtIn(all));
  }

  async #renameModel() {
    const name = await ask("Rename", this.name, S.nameHelp);
    if (name && (await attempt(() => request("PATCH", address(["taught", this.name]), { body: { name } })))) location.hash = link(name);
  }

  async #removeModel() {
    if ((await confirmed(S.removeModel(this.name), "Remove")) && (await attempt(() => remove(["taught", this.name])))) location.hash = "#/teach";
  }
}

export async function open(body, context) {
  const collect = new Collect(body, context);
  const off = context.device.watch(() => collect.runs());
  const close = () => {
    off();
    collect.close();
  };
  close.changed = () => collect.show();
  close.keys = collect.keys();
  return close;
}
