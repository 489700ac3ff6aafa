// The page Events: all events that the device keeps, with filters; the list grows by itself.
import { get, put } from "./api.js?v=__BUILD__";
import { joined, row } from "./event_list.js?v=__BUILD__";
import { T, day } from "./text.js?v=__BUILD__";
import { attempt, button, fill, h, notice, select } from "./ui.js?v=__BUILD__";

const LIMIT = 50;

/** The buttons Right and Wrong, where the device takes verdicts. */
function verdict(event) {
  if (!("verdict" in event)) return null;
  const buttons = [["right", "Right"], ["wrong", "Wrong"]].map(([value, label]) => {
    const click = () =>
      attempt(async () => {
        const { kept } = await put(["events", event.event_id, "verdict"], (event.verdict = event.verdict === value ? null : value));
        show();
        if (kept) (await import("./taught.js?v=__BUILD__")).kept(event, kept);
      });
    const one = button(label, click, "s");
    one.dataset.value = value;
    return one;
  });
  const show = () => buttons.forEach((one) => one.setAttribute("aria-pressed", one.dataset.value === event.verdict));
  show();
  return h("span", { class: "row tight" }, buttons);
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
      [...days].map(([name, some]) => h("section", { class: "card" }, h("h2", {}, name), h("ol", { class: "plain" }, some.map((event) => row(event, verdict(event)))))),
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
  let timer = 0;
  /** Read the newest events again, once for several that come together: by then their pictures are stored. */
  const grow = async () => {
    const page = await get(["events"], { ...chosen, limit: LIMIT });
    const known = new Set(events.map(({ event_id: id }) => id));
    events = [...page.events.filter(({ event_id: id }) => !known.has(id)), ...events];
    show();
  };
  const off = stream.on("event", (event) => {
    if (!wanted(event)) return;
    clearTimeout(timer);
    timer = setTimeout(() => grow().catch(() => {}), 500);
  });
  await again();
  return () => {
    clearTimeout(timer);
    off();
  };
}

function byDay(rows) {
  const days = new Map();
  for (const event of rows) {
    const name = day(event.time);
    days.set(name, [...(days.get(name) ?? []), event]);
  }
  return days;
}
