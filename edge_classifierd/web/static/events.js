// The events that the device has made: a list that grows by itself, with filters and pictures.
import { address, get, put } from "./api.js?v=__BUILD__";
import { T, dateTime, day, duration, percent, time } from "./text.js?v=__BUILD__";
import { attempt, button, dialog, fill, h, notice, select } from "./ui.js?v=__BUILD__";

const LIMIT = 50;

/** Join each `detected` with its `cleared`; newest first, as they come. */
export function joined(events) {
  const rows = [];
  const cleared = new Map();
  for (const event of events) {
    const key = `${event.pipeline}/${event.watch}`;
    if (event.type === "cleared") cleared.set(key, event);
    else {
      rows.push({ ...event, cleared: cleared.get(key) ?? null });
      cleared.delete(key);
    }
  }
  return rows;
}

const picture = (event, size) => address(["events", event.event_id, "picture.jpg"], { size });
const lasted = ({ cleared }) => (cleared === null ? "on" : cleared.active_s === null ? "off" : duration(cleared.active_s));

function thumbnail(event, onclick) {
  if (!event.picture) return h("span", { class: "thumb none" }, "no picture");
  const image = h("img", { src: picture(event, "thumb"), alt: `${event.pipeline}, ${time(event.time)}`, width: 72, height: 54, loading: "lazy" });
  return onclick ? h("button", { type: "button", class: "thumb", onclick, "aria-label": `Open the picture: ${event.watch}, ${time(event.time)}` }, image) : image;
}

/** The buttons Right and Wrong, where the device takes verdicts. */
function verdict(event) {
  if (!("verdict" in event)) return null;
  const buttons = [["right", "Right"], ["wrong", "Wrong"]].map(([value, label]) => {
    const click = () =>
      attempt(async () => {
        await put(["events", event.event_id, "verdict"], (event.verdict = event.verdict === value ? null : value));
        show();
      });
    const one = button(label, click, "s");
    one.dataset.value = value;
    return one;
  });
  const show = () => buttons.forEach((one) => one.setAttribute("aria-pressed", one.dataset.value === event.verdict));
  show();
  return h("span", { class: "row tight" }, buttons);
}

function details(event) {
  const rows = event.top.map(({ label, confidence }) => h("tr", {}, h("th", { scope: "row" }, label), h("td", { class: "n" }, percent(confidence))));
  dialog(
    `${event.watch}, ${dateTime(event.time)}`,
    h("h2", {}, event.watch, h("small", { class: "dim" }, ` ${event.label} ${percent(event.confidence)}`)),
    event.picture && h("img", { class: "full", src: picture(event, "full"), alt: `${event.pipeline}, ${dateTime(event.time)}` }),
    h("p", { class: "small dim n" }, `${event.pipeline} · ${dateTime(event.time)} · ${lasted(event)}`, event.clock_synchronised ? "" : " · the clock was not set"),
    h("table", {}, h("caption", { class: "small dim" }, `Best guesses of ${event.model.name}, ${event.inference_ms.toFixed(1)} ms on ${event.model.accelerator}`), rows),
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn main" }, "Close")),
  );
}

/** One row of a list of events. */
export function row(event, { short = false } = {}) {
  return h(
    "li",
    { class: "event", "data-id": event.event_id },
    thumbnail(event, () => details(event)),
    h("div", {}, h("b", {}, event.watch), h("span", { class: "dim" }, ` ${event.label} ${percent(event.confidence)}`), h("div", { class: "small dim" }, event.pipeline)),
    h("div", { class: "row tight when" }, h("span", { class: "small dim n" }, `${time(event.time)} · ${lasted(event)}`), !short && verdict(event)),
  );
}

/** Fill a list with the newest events. */
export async function newest(list, pipeline, limit) {
  const { events } = await get(["events"], { pipeline, limit: 3 * limit });
  const rows = joined(events).slice(0, limit);
  fill(list, rows.length ? rows.map((event) => row(event, { short: true })) : h("li", { class: "dim small" }, T.noEvents));
}

export async function open(main, { device, stream }) {
  const chosen = { pipeline: "", watch: "" };
  const list = h("div", { "aria-live": "off" });
  const earlier = button("Earlier", () => attempt(load));
  let events = [];
  let more = true;

  const show = () => {
    const rows = joined(events);
    const days = byDay(rows);
    fill(
      list,
      [...days].map(([name, some]) => h("section", { class: "card" }, h("h2", {}, name), h("ol", { class: "plain" }, some.map((event) => row(event))))),
      rows.length || more ? null : notice(chosen.pipeline || chosen.watch ? T.noEventsHere : T.noEvents),
    );
    earlier.hidden = !more;
  };
  const load = async () => {
    const page = await get(["events"], { ...chosen, before: events.at(-1)?.event_id, limit: LIMIT });
    events = events.concat(page.events);
    more = page.more;
    show();
  };
  const again = () => {
    events = [];
    more = true;
    return attempt(load);
  };
  const wanted = (event) => [event.pipeline, ""].includes(chosen.pipeline) && [event.watch, ""].includes(chosen.watch);
  const options = (names) => [["", "all"], ...[...new Set(names)].map((name) => [name, name])];
  const filter = (key) => (value) => {
    chosen[key] = value;
    again();
  };
  fill(
    main,
    h("h1", {}, "Events"),
    h("div", { class: "row filters" }, select("Camera", options(device.pipelines.map(({ name }) => name)), filter("pipeline")), select("Watch", options(device.pipelines.flatMap(({ watches }) => watches.map(({ name }) => name))), filter("watch"))),
    list,
    earlier,
  );
  stream.open(null);
  const off = stream.on("event", (event) => {
    if (!wanted(event) || events.some(({ event_id: id }) => id === event.event_id)) return;
    // The picture is stored right after the event.
    events = [{ picture: event.type === "detected", ...event }, ...events];
    show();
  });
  await again();
  return off;
}

function byDay(rows) {
  const days = new Map();
  for (const event of rows) {
    const name = day(event.time);
    days.set(name, [...(days.get(name) ?? []), event]);
  }
  return days;
}
