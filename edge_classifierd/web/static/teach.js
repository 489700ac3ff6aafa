// Teach: the taught models, and the three steps of one of them: collect, train, compare.
import { get, post } from "./api.js?v=__BUILD__";
import { S } from "./teach_text.js?v=__BUILD__";
import { attempt, fill, h, notice, select } from "./ui.js?v=__BUILD__";

const STEPS = [["collect", "1 Collect"], ["train", "2 Train"], ["compare", "3 Compare"]];
const sort = () => import("./sort.js?v=__BUILD__");
const LOAD = {
  collect: () => import("./collect.js?v=__BUILD__"),
  sort,
  bin: sort,
  train: () => import("./train.js?v=__BUILD__"),
  compare: () => import("./compare.js?v=__BUILD__"),
};

export const link = (...parts) => `#/teach/${parts.map(encodeURIComponent).join("/")}`;

/** The cameras that a taught model runs on. */
export const cameras = (device, name) => device.pipelines.filter(({ model }) => model?.taught && model.name === name);

function card(device, { name, classes, in_use: version }) {
  const pictures = classes.reduce((sum, one) => sum + one.pictures, 0);
  return h(
    "li",
    { class: "card" },
    h("h2", {}, h("a", { href: link(name) }, name)),
    h("p", {}, S.names(classes.filter(({ unknown }) => !unknown).map((one) => one.name))),
    h("p", { class: "small dim n" }, `${S.count(pictures, "picture")} · ${S.inUse(version, cameras(device, name).map((one) => one.name))}`),
  );
}

/** Text as the name of a model, while it is typed: "Desk things" becomes "desk-things". */
const identifier = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-");

/** The form that begins a new model. */
function beginning(device) {
  const name = h("input", { type: "text", id: "name", required: true, maxlength: 32, pattern: "[a-z0-9\\-]+", autocomplete: "off", autocapitalize: "off", spellcheck: "false", title: S.nameHelp, oninput: () => (name.value = identifier(name.value)) });
  let camera = device.pipelines[0]?.name ?? null;
  const begin = async (event) => {
    event.preventDefault();
    if (await attempt(() => post(["taught"], { name: name.value, pipeline: camera }))) location.hash = link(name.value);
  };
  return h(
    "form",
    { class: "card", onsubmit: begin },
    h("h2", {}, S.begin),
    h("p", { class: "small dim" }, S.intro, " ", S.people),
    h("div", { class: "row" }, h("label", { class: "field", for: "name" }, h("span", {}, "Name")), name, select("Camera", device.pipelines.map((one) => [one.name, one.name]), (value) => (camera = value)), h("button", { class: "btn main" }, "Begin")),
    h("p", { class: "small dim" }, S.nameExample),
  );
}

async function models(main, { device, stream }) {
  const list = h("ul", { class: "plain cards two" });
  const load = async () => fill(list, (await get(["taught"])).map((model) => card(device, model)));
  await load();
  fill(main, h("h1", {}, "Teach"), list, device.pipelines.length ? beginning(device) : notice(S.noCamera));
  stream.open(null);
  return stream.on("taught", () => load().catch(() => {}));
}

/** Open one step of a model. The step gets `{name, model, device, stream, changed}`; `changed()` reads the model again. */
async function steps(main, context, name, step, ...rest) {
  const { device, stream } = context;
  const used = h("span", { class: "small dim" });
  const body = h("div", {});
  const current = { sort: "collect", bin: "collect" }[step] ?? step;
  const nav = h("nav", { class: "steps", "aria-label": "Steps" }, STEPS.map(([id, text]) => h("a", { href: link(name, id), "aria-current": id === current && "step" }, text)));
  const inner = { ...context, name, model: await get(["taught", name]) };
  let close = null;
  const show = () => (used.textContent = S.inUse(inner.model.in_use, cameras(device, name).map((one) => one.name)));
  inner.changed = async () => {
    inner.model = await get(["taught", name]);
    show();
    close?.changed?.();
  };
  const module = await LOAD[step]();
  show();
  fill(main, h("div", { class: "row teachhead" }, h("a", { class: "back", href: "#/teach", "aria-label": S.all }, "‹"), h("h1", {}, name), used, nav), body);
  close = await module.open(body, inner, step, ...rest);
  if (step !== "collect") stream.open(null);
  let timer = 0;
  const again = () => {
    clearTimeout(timer);
    timer = setTimeout(() => inner.changed().catch(() => {}), 200);
  };
  const off = [stream.on("taught", (message) => message.name === name && again()), device.watch(show)];
  const leave = () => {
    clearTimeout(timer);
    off.forEach((one) => one());
    close?.();
  };
  leave.keys = close?.keys;
  return leave;
}

export const open = (main, context, name, step = "collect", ...rest) => (name ? steps(main, context, name, step in LOAD ? step : "collect", ...rest) : models(main, context));
