// Teach: pictures without a class, one group of look-alikes after the other, by digit keys or clicks; and the bin.
import { remove } from "./api.js?v=__BUILD__";
import { confirmed } from "./collect.js?v=__BUILD__";
import { Grid, Selection, enlarge, image, move, pictures, selectionBar, undo } from "./grid.js?v=__BUILD__";
import { link } from "./teach.js?v=__BUILD__";
import { S, called, keyed } from "./teach_text.js?v=__BUILD__";
import { percent } from "./text.js?v=__BUILD__";
import { attempt, button, fill, h, notice, refill } from "./ui.js?v=__BUILD__";

const MOST = 1000;

/** The removed pictures, with the way back. */
async function bin(body, context) {
  const selection = new Selection();
  const grid = new Grid(context.name, selection, "Bin");
  const act = async (to) => {
    await move(context, [...selection.ids], to, called(context.model.classes.find(({ id }) => id === to)));
    selection.clear();
    await show();
  };
  const all = () => selection.set(grid.pictures.map(({ id }) => id));
  const bar = selectionBar(selection, context, act, all);
  const empty = async () => {
    if ((await confirmed(S.removeBinned(grid.pictures.length), "Empty")) && (await attempt(() => remove(["taught", context.name, "bin"])))) await show();
  };
  const show = async () => {
    grid.show(await pictures(context.name, "bin", MOST));
    fill(body, grid.pictures.length ? h("section", { class: "card bin" }, h("p", { class: "small dim" }, S.bin, " ", button("Empty now", empty, "quiet s")), grid.element) : notice(S.emptyBin), bar);
  };
  await show();
  const close = () => {};
  close.changed = () => show().catch(() => {});
  return close;
}

export async function open(body, context, step) {
  if (step === "bin") return bin(body, context);
  const { name } = context;
  const selection = new Selection();
  let grid = null;
  let groups = [];
  let at = 0;
  let all = 0;

  const load = async () => {
    const found = new Map();
    for (const one of await pictures(name, "to_sort", MOST)) found.set(one.group, [...(found.get(one.group) ?? []), one]);
    groups = [...found.values()];
    all = Math.max(all, groups.length);
    at = Math.max(0, Math.min(at, groups.length - 1));
  };
  const classes = () => keyed(context.model);
  const guess = (picture) => classes().find(({ slug, name: label }) => [slug, label].includes(picture.guess?.class));
  const put = async (to, target) => {
    const ids = selection.ids.size ? [...selection.ids] : groups[at].map(({ id }) => id);
    if (!(await move(context, ids, to, target))) return;
    groups[at] = groups[at].filter(({ id }) => !ids.includes(id));
    if (!groups[at].length) groups.splice(at, 1);
    show();
  };
  const turn = (by) => {
    at = (at + by + groups.length) % groups.length;
    show();
  };
  const back = async () => {
    await undo(context);
    await load();
    show();
  };
  const show = () => {
    selection.clear();
    at = Math.max(0, Math.min(at, groups.length - 1));
    refill(body, [at, groups.length, groups[at]], () => (groups.length ? view(groups[at]) : [notice(S.sorted), h("a", { class: "btn", href: link(name) }, "Collect"), button("Undo", back, "quiet")]));
  };
  const view = (group) => {
    const [first] = group;
    const guessed = guess(first);
    grid = new Grid(name, selection, S.groupOf(at + 1, groups.length, group.length));
    grid.show(group);
    return h(
      "section",
      { class: "card sorting" },
      h("div", {}, h("button", { type: "button", class: "big", "aria-label": "Enlarge", onclick: () => enlarge(name, first.id, S.picture) }, h("img", { src: image(name, first.id, "full"), alt: S.picture }))),
      h(
        "div",
        {},
        h("p", { class: "n", role: "status" }, S.groupOf(at + 1, groups.length, group.length)),
        group.length > 1 && grid.element,
        guessed && h("p", { class: "small dim" }, S.guess(called(guessed)), first.guess.confidence !== null && ` ${percent(first.guess.confidence)}`),
        h("div", { class: "row tight" }, classes().map((one) => button([called(one), one.key && h("kbd", {}, one.key)], () => put(one.id, called(one)), one.id === guessed?.id ? "main" : ""))),
        h("div", { class: "row tight" }, button("Bin", () => put("bin"), "quiet"), button("Later", () => turn(1), "quiet"), button("Undo", back, "quiet")),
      ),
    );
  };
  const keys = {
    Enter: () => {
      const guessed = groups.length && guess(groups[at][0]);
      if (guessed) put(guessed.id, called(guessed));
    },
    Delete: () => groups.length && put("bin"),
    s: () => groups.length && turn(1),
    a: () => grid && selection.set(grid.pictures.map(({ id }) => id)),
    ArrowRight: () => groups.length && turn(1),
    ArrowLeft: () => groups.length && turn(-1),
    Escape: () => selection.clear(),
    "Ctrl+z": back,
  };
  for (const key of "0123456789") {
    keys[key] = () => {
      const target = classes().find((one) => one.key === key);
      if (target && groups.length) put(target.id, called(target));
    };
  }
  await load();
  show();
  const close = () => {};
  close.keys = keys;
  /** After an undo, and when another browser has sorted something. */
  close.changed = async () => {
    if (groups.flat().length === Math.min(MOST, context.model.to_sort)) return;
    await load().catch(() => {});
    show();
  };
  return close;
}
