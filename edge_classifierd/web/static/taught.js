// What other pages need of taught models: their versions and the way back, the offer on Live, the question after Wrong.
import { address, get, post, put, request } from "./api.js?v=__BUILD__";
import { S, called, keyed } from "./teach_text.js?v=__BUILD__";
import { dateTime } from "./text.js?v=__BUILD__";
import { attempt, button, dialog, fill, h, toast } from "./ui.js?v=__BUILD__";

const A_DAY_MS = 864e5;
const KEY = "replaced";

const stored = () => {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
};

/** Note for a day what ran on a camera before. */
function note(pipeline, value) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...stored(), [pipeline]: value }));
  } catch { /* storage is switched off: Models has all versions */ }
}

/** Use a version on a camera; offer to undo it. Return whether it worked. */
export async function use(device, name, version, pipeline) {
  const before = device.pipeline(pipeline)?.model;
  const from = before?.taught ? { name: before.name, version: before.version } : null;
  const work = async () => {
    await post(["taught", name, "versions", String(version), "use"], { pipeline });
    note(pipeline, from && { ...from, at: Date.now() });
    await device.refresh();
  };
  return attempt(work, S.used(name, version, pipeline), () => (from ? use(device, from.name, from.version, pipeline) : configured(device, pipeline)));
}

/** Return a camera to the model of the configuration file. */
export async function configured(device, pipeline) {
  const work = async () => {
    await put(["pipelines", pipeline, "model"], null);
    await device.refresh();
  };
  return attempt(work, S.back(pipeline));
}

/** Show what Live offers: the way back after a change of the model, or Teach where nothing is watched. */
export function offer(place, device, pipeline) {
  const one = device.pipeline(pipeline);
  const from = stored()[pipeline];
  const back = from && Date.now() - from.at < A_DAY_MS && one.model?.taught && one.model.name === from.name && one.model.version !== from.version ? from.version : null;
  const shown = back ?? (one.model?.taught || !device.overview.features?.teach ? "" : "teach");
  if (place.dataset.shown === String(shown)) return;
  place.dataset.shown = shown;
  if (back) fill(place, button(S.backTo(back), () => use(device, from.name, back, pipeline), "s"));
  else fill(place, shown && h("a", { class: "btn main", href: "#/teach" }, S.begin));
}

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
  const show = () => fill(list, all.map(row));
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
