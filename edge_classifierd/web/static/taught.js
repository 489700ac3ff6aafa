// What other pages need of taught models: their versions and the way back, the offer on Live, the question after Wrong.
import { address, get, post, put, request } from "./api.js?v=__BUILD__";
import { S, called, keyed } from "./teach_text.js?v=__BUILD__";
import { dateTime } from "./text.js?v=__BUILD__";
import { attempt, button, dialog, fill, h, refill, toast } from "./ui.js?v=__BUILD__";

const A_DAY_MS = 864e5;
const KEY = "replaced";

const stored = () => {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
};

/** Note for a day what ran on a camera before; null: forget it. */
function note(pipeline, value) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...stored(), [pipeline]: value }));
  } catch { /* storage is switched off: Models has all versions */ }
}

/** Changes of models run one after another: each is undone to what the one before it has left. */
let last = Promise.resolve();
const inTurn = (change) => (last = last.then(change));

/** Use a version on a camera; offer to undo it. Return whether it worked. `changed` is called after an undo. */
export function use(device, name, version, pipeline, changed = () => {}) {
  let before = null;
  const work = async () => {
    await device.refresh();
    const { model, overridden } = device.pipeline(pipeline) ?? { overridden: [] };
    // What `restore` needs: the model of the camera, whether a command had put it there, and the version of `name`, which
    // other cameras may use.
    before = { name, to: version, at: Date.now(), taught: model?.taught ? model.name : null, version: model?.version, commanded: overridden.includes("model") };
    before.inUse = (await get(["taught", name])).in_use;
    await post(["taught", name, "versions", String(version), "use"], { pipeline });
    note(pipeline, before);
    await device.refresh();
  };
  return inTurn(() => attempt(work, S.used(name, version, pipeline), () => restore(device, pipeline, before, changed)));
}

/** Give a camera exactly the model that it had before a change, and the taught model its version. */
function restore(device, pipeline, { name, to, taught, version, commanded, inUse }, changed) {
  const work = async () => {
    if (taught !== name) await put(["pipelines", pipeline, "model"], commanded ? { taught } : null);
    if (inUse !== null && inUse !== to) await post(["taught", name, "versions", String(inUse), "use"], {});
    note(pipeline, null);
    await device.refresh();
    changed();
  };
  return inTurn(() => attempt(work, taught ? S.used(taught, version, pipeline) : S.back(pipeline), () => use(device, name, to, pipeline, changed)));
}

/** Return a button that takes the last change of a camera's model back; null without one in the last day. */
export function wayBack(device, pipeline, changed = () => {}) {
  const { model } = device.pipeline(pipeline);
  const before = stored()[pipeline];
  if (!before || Date.now() - before.at > A_DAY_MS || !model?.taught || model.name !== before.name || model.version !== before.to) return null;
  if (before.taught === before.name && before.version === before.to) return null;
  const label = before.taught === before.name ? S.backTo(before.version) : S.backToModel(before.taught, before.version);
  return button(label, () => restore(device, pipeline, before, changed));
}

/** Show what Live offers: the way back after a change of the model, or Teach where nothing is watched. */
export function offer(place, device, pipeline) {
  const { model } = device.pipeline(pipeline);
  const back = wayBack(device, pipeline);
  const shown = back?.textContent ?? (model?.taught || !device.overview.features?.teach ? "" : "teach");
  if (place.dataset.shown === shown) return;
  place.dataset.shown = shown;
  fill(place, back ?? (shown && h("a", { class: "btn main", href: "#/teach" }, S.begin)));
}

/** What each camera runs and what its last change replaced, to be compared. */
export const ran = (device) => device.pipelines.map(({ name, model }) => [name, model?.name, model?.version, stored()[name]]);

export const versions = (name) => get(["taught", name, "versions"]);

/** The versions of a model, newest first, each with what can be done with it. */
export function versionList({ device }, name, all) {
  const row = (one) => {
    const on = device.pipelines.filter(({ model }) => model?.taught && model.name === name);
    const running = on.filter(({ model }) => model.version === one.version);
    const go = () => use(device, name, one.version, on[0].name);
    return h(
      "li",
      {},
      h("span", {}, h("a", { href: `#/teach/${name}/compare/${one.version}` }, `Version ${one.version}`), h("span", { class: "small dim n" }, ` ${dateTime(one.made)} · ${S.right(one.held_out)}`)),
      running.length ? h("span", { class: "pill" }, `in use on ${running.map((some) => some.name).join(", ")}`) : on.length > 0 && button("Use", go, "s"),
    );
  };
  const list = h("ul", { class: "plain lines" });
  const show = () => refill(list, ran(device), () => all.map(row));
  show();
  list.off = device.watch(show);
  return list;
}

/** Say where the picture of an event went; after Wrong ask what it is. `to` is the device's answer to the verdict. */
export async function kept(event, { model, name, class: id }) {
  if (event.verdict === "right") return toast(S.toTeach(model, name));
  const classes = keyed(await get(["taught", model])).filter((one) => one.slug !== event.watch);
  const put = (one) =>
    attempt(async () => {
      box.close();
      await request("PUT", address(["events", event.event_id, "verdict"]), { body: { value: "wrong", model, class: one.id } });
    }, S.toTeach(model, called(one)));
  const box = dialog(
    S.whatIsIt,
    h("h2", {}, S.whatIsIt),
    h("img", { class: "full", src: address(["events", event.event_id, "picture.jpg"]), alt: event.watch }),
    h("div", { class: "row tight" }, classes.map((one) => button(called(one), () => put(one), one.id === id ? "main" : ""))),
    h("p", { class: "small dim" }, S.skipHelp(model)),
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn quiet" }, "Skip")),
  );
  return box;
}
