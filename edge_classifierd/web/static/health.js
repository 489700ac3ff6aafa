// The health of the device: figures, what works less well than configured, the doctor's checks and the last warnings.
import { get, post } from "./api.js?v=__BUILD__";
import { T, accelerator, dateTime, duration, megabytes, percent } from "./text.js?v=__BUILD__";
import { attempt, button, fill, h, notice } from "./ui.js?v=__BUILD__";

const VERDICTS = { ok: "ok", unused: "not used", warning: "warning", failed: "failed" };

const tile = (value, label) => h("div", { class: "tile" }, h("dd", { class: "n" }, value), h("dt", {}, label));
const known = (value, text) => (value === null || value === undefined ? "–" : text(value));

function tiles({ uptime_s: uptime, mqtt, outbox, board, clock_synchronised: clock, web, store }) {
  return h(
    "dl",
    { class: "tiles" },
    tile(duration(uptime), "since the start"),
    tile(mqtt?.connected_since_s === null || !mqtt ? "no" : duration(mqtt.connected_since_s), mqtt?.connected_since_s === null || !mqtt ? "connection to the broker" : "connected to the broker"),
    tile(known(outbox?.depth, String), "events wait for the broker"),
    tile(known(outbox?.lost, String), "events lost"),
    tile(known(board.temperature_c, (t) => `${Math.round(t)} °C`), "temperature"),
    tile(known(board.memory.rss_mb, megabytes), "memory in use"),
    tile(known(board.memory.available_mb, megabytes), "memory available"),
    tile(known(board.disk_free_mb, megabytes), "free on the disk"),
    tile(known(board.load, (load) => load.toFixed(2)), "load"),
    tile(clock ? "set" : "not set", "clock"),
    tile(megabytes(store.bytes / 1e6), `${store.pictures} ${store.pictures === 1 ? "picture" : "pictures"} of events`),
    tile(String(web.viewers), web.viewers === 1 ? "browser looks on" : "browsers look on"),
  );
}

function pipeline(name, one) {
  const milliseconds = (value) => known(value, (ms) => `${ms.toFixed(1)} ms`);
  const figures = [
    ["Pictures a second", known(one.fps, (fps) => fps.toFixed(1))],
    ["Inference, median", known(one.inference_ms?.p50, (ms) => `${ms.toFixed(1)} ms ${accelerator(one.accelerator)}`)],
    ["Latency, median and 95 %", `${milliseconds(one.latency_ms?.p50)}, ${milliseconds(one.latency_ms?.p95)}`],
    ["Classified", one.inferences],
    ["Dropped for newer ones", one.dropped],
    ["Not classified: nothing moved", one.gated],
    ["Skipped, failed", `${one.skipped}, ${one.errors}`],
    ["Restarts", one.restarts],
    ["Ambiguous in the last hour", known(one.ambiguous_share, percent)],
    ["Model", known(one.model, (model) => model.name)],
  ];
  return h(
    "section",
    { class: "card" },
    h("div", { class: "row head" }, h("h2", {}, name), h("span", { class: `dot push ${one.status === "online" ? "" : "lost"}` }, one.status)),
    one.reasons.map((reason) => notice(reason)),
    one.hint && h("p", { class: "small" }, one.hint),
    h("dl", { class: "figures n" }, figures.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, String(value))))),
  );
}

function findings(results) {
  return h("ul", { class: "plain findings" }, results.map(({ name, verdict, sentence, remedy }) => h("li", { class: verdict }, h("b", {}, VERDICTS[verdict] ?? verdict), h("span", {}, `${name}: ${sentence}`, remedy && h("span", { class: "dim" }, ` ${remedy}`)))));
}

export async function open(main, { device, stream }) {
  const reasons = h("div", {});
  const figures = h("div", {});
  const pipelines = h("div", { class: "cards two" });
  const results = h("div", { "aria-live": "polite" });
  const log = h("ul", { class: "plain log" });
  const show = (health) => {
    const { mqtt, web } = health;
    const all = [...health.reasons, ...(mqtt?.reasons ?? []), ...web.reasons];
    fill(reasons, [...new Set(all)].map((reason) => notice(reason)));
    fill(figures, tiles(health));
    fill(pipelines, Object.entries(health.pipelines).map(([name, one]) => pipeline(name, one)));
  };
  const examine = async () => {
    check.disabled = true;
    fill(results, h("p", { class: "dim" }, T.examining));
    const done = await attempt(async () => fill(results, findings((await post(["doctor"])).findings)));
    if (!done) fill(results);
    check.disabled = false;
  };
  const check = button("Examine", examine);
  const warnings = async () => {
    const { warnings: lines } = await get(["log"]);
    fill(log, lines.length ? lines.map(({ time, level, message }) => h("li", {}, h("span", { class: "dim n" }, `${dateTime(time)} ${level} `), message)) : h("li", { class: "dim" }, T.noWarnings));
  };
  const versions = h("dl", { class: "figures" });
  const program = h("details", {}, h("summary", {}, `Versions: edge-classifierd ${device.overview.version}`), versions);
  const list = async () => {
    const { packages, ...others } = await get(["versions"]);
    const rows = Object.entries({ ...others, ...packages });
    fill(versions, rows.map(([name, version]) => h("div", {}, h("dt", {}, name), h("dd", {}, version))));
  };
  program.addEventListener("toggle", () => attempt(list), { once: true });
  fill(
    main,
    h("h1", {}, "Health"),
    reasons,
    figures,
    pipelines,
    h("section", { class: "card" }, h("div", { class: "row head" }, h("h2", {}, "Examination"), h("span", { class: "push" }, check)), h("p", { class: "small dim" }, T.doctor), results),
    h("section", { class: "card" }, h("h2", {}, "Last warnings"), log),
    h("section", { class: "card" }, program),
  );
  stream.open(null);
  show(await get(["health"]));
  await warnings().catch((error) => fill(log, h("li", { class: "dim" }, error.message)));
  return stream.on("health", show);
}
