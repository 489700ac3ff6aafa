// Teach, step 3: the result of a version in sentences, its mistakes, and its use.
import { address, get } from "./api.js?v=__BUILD__";
import { enlarge, image, move } from "./grid.js?v=__BUILD__";
import { cameras, link } from "./teach.js?v=__BUILD__";
import { S, called } from "./teach_text.js?v=__BUILD__";
import { dateTime, megabytes, percent } from "./text.js?v=__BUILD__";
import { ran, use, versionList, versions, wayBack } from "./taught.js?v=__BUILD__";
import { button, fill, h, notice, refill, select } from "./ui.js?v=__BUILD__";

/** The figures of two versions, side by side, on the same pictures. */
function figures(result, against) {
  const sides = [result, against].filter(Boolean);
  const rows = [
    ["right", sides.map(({ held_out: held }) => `${held.right} of ${held.pictures}`)],
    ["false alarms", sides.map(({ unknown }) => (unknown ? `${unknown.false_alarms} of ${unknown.pictures}` : "not measured"))],
    ["each class alike", sides.map(({ held_out: held }) => percent(held.balanced))],
  ];
  return h(
    "table",
    {},
    h("caption", { class: "small dim" }, against ? S.samePictures : S.unseen),
    h("thead", {}, h("tr", {}, h("td", {}), sides.map(({ version }, i) => h("th", { scope: "col" }, `version ${version}`)))),
    h("tbody", {}, rows.map(([label, values]) => h("tr", {}, h("th", { scope: "row" }, label), values.map((value) => h("td", { class: "n" }, value))))),
  );
}

/** Pictures that were taken for another class, with the way to put them right. */
function wrong(context, title, found = []) {
  const named = (slug) => context.model.classes.find((one) => one.slug === slug);
  const rows = found.map(({ picture: id, truth, predicted, confidence }) => {
    const other = named(predicted);
    const [of, taken] = [called(named(truth)) || truth, called(other) || predicted];
    const row = h(
      "li",
      {},
      h("button", { type: "button", class: "thumb", "aria-label": S.enlarge(of), onclick: () => enlarge(context.name, id, of) }, h("img", { src: image(context.name, id), alt: of, loading: "lazy" })),
      h("span", { class: "small" }, S.takenFor(of, taken), " ", h("span", { class: "dim n" }, percent(confidence))),
      h(
        "span",
        { class: "row tight" },
        other && button(S.to(taken), async () => (await move(context, [id], other.id, taken)) && row.remove(), "s"),
        button("Bin", async () => (await move(context, [id], "bin")) && row.remove(), "quiet s"),
      ),
    );
    return row;
  });
  return rows.length ? h("section", { class: "card" }, h("h2", {}, title), h("ul", { class: "plain mistakes" }, rows)) : null;
}

export async function open(body, context, step, wanted) {
  const { name, device } = context;
  const all = await versions(name);
  if (!all.length) {
    fill(body, notice(S.noVersions), h("a", { class: "btn", href: link(name) }, "Collect"));
    return () => {};
  }
  const number = Number(wanted) || all[0].version;
  const result = await get(["taught", name, "versions", String(number)]);
  const running = cameras(device, name).map((one) => one.name);
  const used = context.model.in_use;
  let camera = running[0] ?? context.model.pipeline ?? device.pipelines[0]?.name;
  const changed = () => context.changed().catch(() => {});
  const take = async (version) => {
    if (await use(device, name, version, camera, changed)) await changed();
  };
  const actions = h("div", { class: "row" });
  const worse = notice(S.worse(number, result.against?.version));
  const show = () => {
    const on = cameras(device, name).some((one) => one.name === camera);
    const now = context.model.in_use;
    const against = result.against?.version ?? null;
    worse.hidden = !result.worse || (on && now === number);
    refill(actions, [camera, now, ran(device)], () => [
      device.pipelines.length > 1 && select("Camera", [camera, ...device.pipelines.map((one) => one.name).filter((one) => one !== camera)].map((one) => [one, one]), (value) => {
        camera = value;
        show();
      }),
      on && now === number ? h("span", { class: "pill" }, `in use on ${camera}`) : button(result.worse ? S.useAnyway(number) : S.use(number), () => take(number), "main"),
      on && now === number && (wayBack(device, camera, changed) ?? (against !== null && against !== number && all.some(({ version }) => version === against) && button(S.backTo(against), () => take(against)))),
      h("a", { class: "btn", href: address(["taught", name, "versions", String(number), "report.html"]), target: "_blank", rel: "noopener" }, "Report"),
      h("a", { class: "btn quiet", href: address(["taught", name, "versions", String(number), "model.tflite"]), download: `${name}-${number}.tflite` }, "Download"),
    ]);
  };
  show();
  fill(
    body,
    h(
      "div",
      { class: "cards" },
      h(
        "section",
        { class: "card result" },
        h("div", { class: "row head" }, h("h2", {}, `Version ${number}`), used === number && h("span", { class: "pill" }, "in use"), h("span", { class: "small dim" }, `${dateTime(result.made)} · ${megabytes(result.bytes / 1e6)}`)),
        h("ul", { class: "plain sentences" }, result.sentences.map((sentence) => h("li", {}, sentence))),
        result.held_out && figures(result, result.against),
        worse,
        actions,
      ),
      wrong(context, S.mistakes, result.held_out?.mistakes),
      wrong(context, S.suspicious, result.held_out?.suspicious),
      h("section", { class: "card" }, h("h2", {}, "Versions"), versionList(context, name, all)),
    ),
  );
  const close = device.watch(show);
  const leave = () => close();
  leave.changed = show;
  return leave;
}
