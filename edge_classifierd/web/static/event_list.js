// Events as rows of a list, and one of them with its picture in a dialog.
import { address, get } from "./api.js?v=__BUILD__";
import { T, dateTime, duration, percent, time } from "./text.js?v=__BUILD__";
import { dialog, fill, h } from "./ui.js?v=__BUILD__";

/** Give each `detected` its `cleared`, and return only the former; newest first, as they come. */
export function joined(events) {
  const rows = [];
  const cleared = new Map();
  for (const event of events) {
    const key = `${event.pipeline}/${event.watch}`;
    if (event.type === "cleared") cleared.set(key, event);
    else {
      rows.push(Object.assign(event, { cleared: cleared.get(key) ?? null }));
      cleared.delete(key);
    }
  }
  return rows;
}

const picture = (event) => address(["events", event.event_id, "picture.jpg"]);
const lasted = ({ cleared }) => (cleared === null ? "on" : cleared.active_s === null ? "off" : duration(cleared.active_s));

function thumbnail(event, onclick) {
  if (!event.picture) return h("span", { class: "thumb none" }, "no picture");
  const image = h("img", { src: picture(event), alt: `${event.pipeline}, ${time(event.time)}`, width: 72, height: 54, loading: "lazy" });
  return onclick ? h("button", { type: "button", class: "thumb", onclick, "aria-label": `Open the picture: ${event.watch}, ${time(event.time)}` }, image) : image;
}

function details(event) {
  const rows = event.top.map(({ label, confidence }) => h("tr", {}, h("th", { scope: "row" }, label), h("td", { class: "n" }, percent(confidence))));
  dialog(
    `${event.watch}, ${dateTime(event.time)}`,
    h("h2", {}, event.watch, h("small", { class: "dim" }, ` ${event.label} ${percent(event.confidence)}`)),
    event.picture && h("img", { class: "full", src: picture(event), alt: `${event.pipeline}, ${dateTime(event.time)}` }),
    h("p", { class: "small dim n" }, `${event.pipeline} · ${dateTime(event.time)} · ${lasted(event)}`, event.clock_synchronised ? "" : " · the clock was not set"),
    h("table", {}, h("caption", { class: "small dim" }, `Best guesses of ${event.model.name}, ${event.inference_ms.toFixed(1)} ms on ${event.model.accelerator}`), rows),
    h("form", { method: "dialog", class: "row end" }, h("button", { class: "btn main" }, "Close")),
  );
}

/** One row of a list of events, with more at its end. */
export function row(event, ...more) {
  return h(
    "li",
    { class: "event", "data-id": event.event_id },
    thumbnail(event, () => details(event)),
    h("div", {}, h("b", {}, event.watch), h("span", { class: "dim" }, ` ${event.label} ${percent(event.confidence)}`), h("div", { class: "small dim" }, event.pipeline)),
    h("div", { class: "row tight when" }, h("span", { class: "small dim n" }, `${time(event.time)} · ${lasted(event)}`), more),
  );
}

/** Fill a list with the newest events. */
export async function newest(list, pipeline, limit) {
  const { events } = await get(["events"], { pipeline, limit: 3 * limit });
  const rows = joined(events).slice(0, limit);
  fill(list, rows.length ? rows.map((event) => row(event)) : h("li", { class: "dim small" }, T.noEvents));
}
