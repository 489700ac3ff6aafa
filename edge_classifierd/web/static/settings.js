// Settings: appearance, values that differ from the file, the configuration with its problems, and signing out.
import { get, post, put, remove } from "./api.js?v=__BUILD__";
import { off, switchKeys } from "./keys.js?v=__BUILD__";
import { T, percent } from "./text.js?v=__BUILD__";
import { attempt, button, fill, h, notice, segments, toast } from "./ui.js?v=__BUILD__";

const THEMES = [["", "Automatic"], ["light", "Light"], ["dark", "Dark"]];

function appearance() {
  const { dataset } = document.documentElement;
  const change = (theme) => {
    if (theme) dataset.theme = theme;
    else delete dataset.theme;
    try {
      localStorage.setItem("theme", theme);
    } catch { /* storage is switched off: the choice lasts until the page is closed */ }
  };
  return h("section", { class: "card" }, h("div", { class: "row" }, h("h2", {}, "Appearance"), h("span", { class: "push" }, segments("Appearance", THEMES, dataset.theme ?? "", change))), h("div", { class: "row" }, h("h2", {}, "Keys"), h("span", { class: "push" }, segments("Keys", [["on", "On"], ["off", "Off"]], off() ? "off" : "on", (value) => switchKeys(value === "on")))));
}

/** The commanded values of all pipelines, each with its route and what it is now. */
function commanded(pipelines) {
  return pipelines.flatMap(({ name, overridden, watches, enabled, region, model }) =>
    overridden.map((key) => {
      const watch = watches.find((one) => key === `${one.name}.threshold`);
      if (watch) return { name, what: `threshold of ${watch.name}`, value: percent(watch.threshold), route: ["pipelines", name, "watches", watch.name, "threshold"] };
      if (key === "enabled") return { name, what: "camera", value: enabled ? "on" : "off", route: ["pipelines", name, key] };
      const value = key === "region" ? ["x", "y", "width", "height"].map((side) => percent(region[side])).join(", ") : key === "model" ? model?.name ?? "" : "";
      return { name, what: key, value, route: ["pipelines", name, key] };
    }),
  );
}

function overrides(device) {
  const list = h("ul", { class: "plain lines" });
  const show = () => {
    const rows = commanded(device.pipelines);
    fill(
      list,
      rows.length
        ? rows.map(({ name, what, value, route }) => {
            const back = async () => {
              if (await attempt(() => put(route, null), T.asConfigured(what))) device.refresh().catch(() => {});
            };
            return h("li", {}, h("span", {}, h("b", {}, name), ` ${what}: ${value}`), button("As configured", back, "quiet s"));
          })
        : h("li", { class: "dim" }, T.asInTheFile),
    );
  };
  show();
  return [h("section", { class: "card" }, h("h2", {}, "Differs from the file"), list), device.watch(show)];
}

/** Problems with their places; a click on one goes to its line. */
function problemList(problems, goTo) {
  return h("ul", { class: "plain lines problems" }, problems.map((problem) => h("li", {}, goTo && problem.line ? button(`line ${problem.line}`, () => goTo(problem.line), "quiet s") : null, h("span", {}, problem.key ? `${problem.key}: ` : "", problem.message))));
}

function reload() {
  const result = h("div", { "aria-live": "polite" });
  const run = async () => {
    try {
      const { changed } = await post(["reload"]);
      fill(result, h("p", { class: "small" }, T.reloaded(changed)));
    } catch (error) {
      fill(result, notice(error.problems.length ? T.notReloaded : error.message), h("ul", {}, error.problems.map((sentence) => h("li", {}, sentence))));
    }
  };
  return h("section", { class: "card" }, h("div", { class: "row head" }, h("h2", {}, "Reload"), h("span", { class: "push" }, button("Reload configuration", run))), h("p", { class: "small dim" }, T.reload), result);
}

async function configuration() {
  const { file, text, problems: mistakes, warnings } = await get(["configuration"]);
  const problems = [...mistakes, ...warnings];
  const at = new Map(problems.map((problem) => [problem.line, problem]));
  const line = (source, i) => {
    const problem = at.get(i + 1);
    return h("li", { id: `line-${i + 1}`, class: problem && "bad" }, h("code", {}, source || " "), problem && h("strong", {}, problem.message));
  };
  const lines = text.split("\n").map(line);
  const goTo = (line) => document.getElementById(`line-${line}`)?.scrollIntoView({ block: "center" });
  const draft = h("textarea", { id: "draft", rows: 14, spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const found = h("div", { "aria-live": "polite" });
  const select = (line) => {
    const start = draft.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    draft.focus();
    draft.setSelectionRange(start, start + draft.value.slice(start).split("\n")[0].length);
  };
  const check = () =>
    attempt(async () => {
      const answer = await post(["check"], { text: draft.value });
      fill(found, answer.problems.length ? problemList(answer.problems, select) : h("p", { class: "small" }, T.noProblems));
    });
  const drafting = h("details", {}, h("summary", {}, "Check a draft"), h("p", { class: "small dim" }, T.draft), h("label", { class: "offscreen", for: "draft" }, "Draft of the configuration"), draft, h("div", { class: "row" }, button("Check", check, "main")), found);
  // A hidden secret would be no YAML; the checker takes the name of a credential without reading it.
  const start = text.replace(/: \*\*\*(?=[\s,}]|$)/gm, ": !credential hidden");
  drafting.addEventListener("toggle", () => (draft.value ||= start), { once: true });
  return h(
    "section",
    { class: "card" },
    h("h2", {}, "Configuration"),
    h("p", { class: "small dim" }, h("code", {}, file)),
    problems.length ? problemList(problems, goTo) : h("p", { class: "small" }, T.noProblems),
    h("ol", { class: "source", tabindex: "0", "aria-label": "The configuration file, secrets hidden" }, lines),
    drafting,
  );
}

function signOut() {
  const leave = (route) => attempt(async () => {
    await remove(route);
    location.reload();
  });
  return h("section", { class: "card" }, h("div", { class: "row" }, h("h2", {}, "Session"), h("span", { class: "push row" }, button("Sign out", () => leave(["session"])), button("Sign out everywhere", () => leave(["sessions"])))));
}

export async function open(main, { device, stream }) {
  const [differing, close] = overrides(device);
  const shown = h("div", {});
  const { password_required: locked } = await get(["session"]);
  fill(main, h("h1", {}, "Settings"), h("div", { class: "cards narrow" }, appearance(), differing, reload(), shown, locked && signOut(), h("p", { class: "small dim foot" }, `edge-classifierd ${device.overview.version} · `, h("code", {}, location.origin + location.pathname))));
  stream.open(null);
  try {
    fill(shown, await configuration());
  } catch (error) {
    toast(error.message);
  }
  return close;
}
