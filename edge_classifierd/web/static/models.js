// The models on this device and where they run.
import { get } from "./api.js?v=__BUILD__";
import { T, megabytes } from "./text.js?v=__BUILD__";
import { fill, h } from "./ui.js?v=__BUILD__";

const KINDS = { bundled: "comes with the program", file: "a file of yours", taught: "taught on this device" };

function card({ name, kind, used_by: users, classes, bytes, sha256, licence }) {
  const facts = [
    ["Runs on", users.length ? users.map((user, i) => [i ? ", " : "", h("a", { href: `#/live/${encodeURIComponent(user)}` }, user)]) : "no camera"],
    ["Classes", classes === null ? "–" : classes.toLocaleString()],
    ["Size", bytes === null ? "–" : megabytes(bytes / 1e6)],
    ["Licence", licence ?? T.unknownLicence],
    ["SHA-256", h("code", {}, sha256 ?? "–")],
  ];
  return h(
    "section",
    { class: "card" },
    h("div", { class: "row head" }, h("h2", {}, name), users.length ? h("span", { class: "pill" }, "in use") : null, h("span", { class: "push small dim" }, KINDS[kind] ?? kind)),
    h("dl", { class: "figures" }, facts.map(([label, value]) => h("div", {}, h("dt", {}, label), h("dd", {}, value)))),
  );
}

/** The taught models with their versions. */
async function taught(context) {
  if (!context.device.overview.features?.teach) return [];
  const { versionList, versions } = await import("./taught.js?v=__BUILD__");
  const all = await get(["taught"]);
  return Promise.all(
    all.map(async ({ name }) => {
      const made = await versions(name);
      const list = versionList(context, name, made);
      const head = h("div", { class: "row head" }, h("h2", {}, h("a", { href: `#/teach/${name}` }, name)), h("span", { class: "push small dim" }, KINDS.taught));
      return { element: h("section", { class: "card" }, head, made.length ? list : h("p", { class: "small dim" }, T.notTrained)), off: list.off };
    }),
  );
}

export async function open(main, context) {
  const cards = h("div", { class: "cards" });
  fill(main, h("h1", {}, "Models"), cards);
  context.stream.open(null);
  const [models, lists] = await Promise.all([get(["models"]), taught(context)]);
  fill(cards, lists.map(({ element }) => element), models.filter(({ kind }) => kind !== "taught").map(card));
  return () => lists.forEach(({ off }) => off());
}
