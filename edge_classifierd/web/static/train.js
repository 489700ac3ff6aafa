// Teach, step 2: begins a training, shows how far it is, and opens its result.
import { get, post, put, remove } from "./api.js?v=__BUILD__";
import { link } from "./teach.js?v=__BUILD__";
import { S, called, keyed } from "./teach_text.js?v=__BUILD__";
import { T, absence } from "./text.js?v=__BUILD__";
import { attempt, button, fill, h, notice, say, segments, toast } from "./ui.js?v=__BUILD__";

const EVERY_MS = 1000;
const ENDS = ["finished", "failed", "cancelled"];

export async function open(body, context) {
  const { name, stream, device } = context;
  const bar = h("progress", { max: 1, "aria-label": "Progress" });
  const stage = h("p", { "aria-live": "polite" });
  const left = h("p", { class: "small dim n" });
  let extractor = "fast";
  let running = context.model.training && !ENDS.includes(context.model.training.stage) ? context.model.training : null;
  let timer = 0;
  let closed = false;

  const begin = () =>
    attempt(async () => {
      const { id } = await post(["taught", name, "trainings"], { extractor });
      running = { id, model: name, stage: "", done: 0, of: 0, seconds_left: null };
      show();
      await follow();
    });
  const cancel = () => attempt(() => remove(["taught", name, "trainings", running.id]));
  const row = (one) => h("tr", {}, h("th", { scope: "row" }, called(one)), h("td", { class: "n" }, one.pictures), h("td", { class: "n wide" }, one.recordings), h("td", { class: "small" }, one.advice));

  const ready = () => {
    const { model } = context;
    const go = button(S.train(model.seconds_estimate), begin, "main tall");
    go.disabled = !model.can_train;
    return h(
      "section",
      { class: "card narrow" },
      h("p", { class: "small dim" }, S.trainHelp),
      h("table", {}, h("thead", {}, h("tr", {}, ["Class", "Pictures"].map((text) => h("th", { scope: "col" }, text)), h("th", { scope: "col", class: "wide" }, "Recordings"), h("td", {}))), h("tbody", {}, keyed(model).map(row))),
      model.missing && h("p", { class: "advice" }, model.missing),
      h("div", { class: "row" }, segments("Accuracy", [["fast", "Fast"], ["accurate", "Accurate"]], extractor, (value) => (extractor = value)), go),
      h("p", { class: "small dim" }, S.accurate),
    );
  };
  const pauseHelp = h("p", { class: "small dim" });
  const pause = button("", () => attempt(() => put(["taught", name, "trainings", running.id, "pause"], !paused())));
  /** The rest of the cameras that this page or another one has paused. */
  const paused = () => device.pipelines.find(({ resting }) => resting?.why === "training")?.resting ?? null;
  const pausing = () => {
    const now = paused();
    pause.hidden = pauseHelp.hidden = !now && device.pipelines.every(absence);
    say(pause, now ? S.resume : S.pause);
    say(pauseHelp, now ? `${T.training(now.until)}.` : S.pauseHelp);
  };
  const progress = () => h("section", { class: "card narrow" }, stage, bar, h("div", { class: "row" }, left, h("span", { class: "push row tight" }, pause, button("Cancel", cancel))), pauseHelp);
  const show = () => fill(body, running ? progress() : ready());
  const tell = () => {
    const { stage: now, done, of, seconds_left: seconds, waiting_for: waiting } = running;
    say(stage, [S.stages[now] || now || S.starting, waiting && !paused() && waiting].filter(Boolean).join(": "));
    pausing();
    if (of) bar.value = done / of;
    else bar.removeAttribute("value");
    say(left, seconds === null || seconds === undefined ? "" : S.secondsLeft(seconds));
  };
  /** Show the training until it is over; the stream would be enough, if no proxy held it back. */
  const follow = async () => {
    clearTimeout(timer);
    while (running && !closed) {
      tell();
      await new Promise((done) => (timer = setTimeout(done, EVERY_MS)));
      if (closed) return;
      const answer = await get(["taught", name, "trainings", running.id]).catch((error) => (error.status ? { stage: "failed", failure: error.message } : running));
      if (!over(answer)) running = answer;
    }
  };
  const over = ({ stage: end, failure, version }) => {
    if (!ENDS.includes(end)) return false;
    running = null;
    device.refresh().catch(() => {});
    if (end === "finished") location.hash = link(name, "compare", String(version));
    else {
      context.changed().catch(() => {});
      show();
      if (end === "cancelled") toast(S.cancelled);
      else body.prepend(notice(failure));
    }
    return true;
  };
  show();
  const off = stream.on("training", (message) => {
    if (!running || message.id !== running.id || ENDS.includes(message.stage)) return;
    running = message;
    tell();
  });
  follow();
  const unwatch = device.watch(pausing);
  const close = () => {
    closed = true;
    unwatch();
    clearTimeout(timer);
    off();
  };
  close.changed = () => running || show();
  close.keys = { t: () => !running && context.model.can_train && begin() };
  return close;
}
