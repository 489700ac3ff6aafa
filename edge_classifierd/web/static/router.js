// Starts the page: signs in, draws the navigation and opens the page that the address names after its '#'.
import { get, onSignedOut } from "./api.js?v=__BUILD__";
import { Device } from "./device.js?v=__BUILD__";
import { Stream } from "./stream.js?v=__BUILD__";
import { T } from "./text.js?v=__BUILD__";
import { button, fill, h, say, toast } from "./ui.js?v=__BUILD__";

const PAGES = [["live", "Live"], ["events", "Events"], ["teach", "Teach"], ["models", "Models"], ["health", "Health"]];
const LOAD = {
  live: () => import("./live.js?v=__BUILD__"),
  events: () => import("./events.js?v=__BUILD__"),
  teach: () => styled(styled(import("./teach.js?v=__BUILD__")), "teach"),
  models: () => styled(import("./models.js?v=__BUILD__")),
  health: () => styled(import("./health.js?v=__BUILD__")),
  settings: () => styled(import("./settings.js?v=__BUILD__")),
};

const sheets = {};
/** Wait for a module and for the styles that Live does without. */
async function styled(module, sheet = "more") {
  sheets[sheet] ??= new Promise((done) => document.head.append(h("link", { rel: "stylesheet", href: `static/${sheet}.css?v=__BUILD__`, onload: done, onerror: done })));
  await sheets[sheet];
  return module;
}

const login = () => import("./login.js?v=__BUILD__");
const element = (id) => document.getElementById(id);
const main = element("main");
const stream = new Stream();
const device = new Device(stream);
let leave = () => {};
let opening = 0;
let build = null;

function route() {
  const [, page = "", ...names] = location.hash.split("/");
  return [page in LOAD ? page : "live", ...names.map(decodeURIComponent)];
}

async function openPage(focus) {
  const [page, ...names] = route();
  const number = ++opening;
  const { open } = await LOAD[page]();
  if (number !== opening) return;
  leave();
  leave = () => {};
  main.classList.toggle("broad", ["live", "teach"].includes(page));
  for (const link of document.querySelectorAll("#pages a, #settings")) {
    if (link.hash === `#/${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const [, title] = PAGES.find(([name]) => name === page) ?? [page, "Settings"];
  document.title = `${names[0] ?? title} · ${device.overview.device.name}`;
  try {
    const close = await open(main, { device, stream }, ...names);
    if (number === opening) leave = close ?? leave;
    else close?.();
  } catch (error) {
    if (number !== opening) return;
    fill(main, h("h1", {}, title), h("p", { class: "notice" }, error.message), button("Try again", () => openPage(true)));
  }
  if (focus) main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function navigation() {
  const pages = PAGES.filter(([page]) => page !== "teach" || device.overview.features?.teach);
  fill(element("pages"), pages.map(([page, label]) => h("a", { href: `#/${page}` }, icon(page), label)));
  element("pages").hidden = element("settings").hidden = false;
  fill(element("device"), h("a", { href: "#/settings", title: "Settings" }, device.overview.device.name));
}

const icon = (name) => element("icons").content.querySelector(`.icon-${name}`).cloneNode(true);

let ticking = 0;
function link({ connected, since }) {
  clearInterval(ticking);
  const banner = element("banner");
  say(element("link"), connected ? "connected" : "not connected");
  element("link").classList.toggle("lost", !connected);
  const show = () => {
    banner.hidden = connected;
    say(banner, connected ? "" : T.notConnected((Date.now() - since) / 1000));
  };
  show();
  if (!connected) ticking = setInterval(show, 1000);
}

/** After a connection: a page of another version loads itself again, unless something is being typed. */
async function hello(message) {
  if (build !== null && message.build !== build) {
    if (!document.querySelector(".editor, textarea:focus, input:focus")) location.reload();
    else toast(T.updated, () => location.reload(), "Reload");
  }
  build = message.build;
  await device.refresh().catch(() => {});
}

async function start() {
  const session = await get(["session"]);
  document.title = session.device_name;
  say(element("device"), session.device_name);
  if (session.password_required && !session.signed_in) await (await login()).signIn(main, session.device_name);
  onSignedOut(async () => (await login()).signInAgain());
  await device.refresh();
  navigation();
  stream.on("link", link);
  stream.on("hello", hello);
  addEventListener("hashchange", () => openPage(true));
  device.watch(training);
  training();
  const keys = import("./keys.js?v=__BUILD__").then(({ start: listen }) => listen(() => leave.keys));
  await openPage(false);
  await keys;
}

/** The training that runs is named on every page. */
function training() {
  const now = device.overview.training;
  element("training").hidden = !now;
  if (!now) return;
  element("training").href = `#/teach/${now.model}/train`;
  say(element("training"), `training ${now.model}${now.of ? ` ${Math.floor((100 * now.done) / now.of)} %` : ""}`);
}

start().catch((error) => fill(main, h("h1", {}, document.title), h("p", { class: "notice" }, error.message), button("Try again", () => location.reload())));
