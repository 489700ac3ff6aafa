// Keys: g and a letter for the pages, and those of the page that is open. They can be switched off.
import { button, dialog, h } from "./ui.js?v=__BUILD__";

const PAGES = { l: "live", e: "events", t: "teach", m: "models", h: "health" };
const HELP = [
  ["g, then l e t m h", "Live, Events, Teach, Models, Health"],
  ["r", "Live: set the region"],
  ["1 … 9, 0", "Teach: hold to record a class; or move the chosen pictures, the group of look-alikes"],
  ["Space", "Teach: hold to record the chosen class"],
  ["a, Delete", "choose all pictures, move them to the bin"],
  ["Enter, s, ← →", "Sort: take the guess, later, other groups"],
  ["Ctrl+Z", "Teach: undo"],
  ["t", "Teach: train"],
  ["Escape", "stop, choose nothing"],
];

export const off = () => {
  try {
    return localStorage.getItem("keys") === "off";
  } catch {
    return false;
  }
};

export function switchKeys(on) {
  try {
    localStorage.setItem("keys", on ? "on" : "off");
  } catch { /* storage is switched off: keys stay on */ }
}

function help() {
  dialog("Keys", h("h2", {}, "Keys"), h("table", {}, HELP.map(([key, text]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, key)), h("td", {}, text)))), h("form", { method: "dialog", class: "row end" }, button("Switch keys off", (event) => {
    switchKeys(false);
    event.target.closest("dialog").close();
  }), h("button", { class: "btn main" }, "Close")));
}

/** Listen to keys. `page()` returns those of the open page: functions, or {down, up}. */
export function start(page) {
  let goes = false;
  const held = new Map();
  document.addEventListener("keydown", (event) => {
    if (off() || event.target.closest("input, select, textarea, dialog, [contenteditable]") || event.altKey) return;
    const command = event.ctrlKey || event.metaKey;
    const key = command ? `Ctrl+${event.key.toLowerCase()}` : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (goes && PAGES[key]) location.hash = `#/${PAGES[key]}`;
    const went = goes;
    goes = key === "g";
    if (went || goes) return;
    if (key === "?") return help();
    const act = page()?.[key];
    // A focused button has its own Space and Enter.
    if (!act || (["Enter", " "].includes(key) && event.target.closest("button, a, summary"))) return;
    event.preventDefault();
    if (event.repeat) return;
    if (act.up) held.set(event.code, act.up);
    (act.down ?? act)(event);
  });
  document.addEventListener("keyup", (event) => {
    held.get(event.code)?.();
    held.delete(event.code);
  });
}
