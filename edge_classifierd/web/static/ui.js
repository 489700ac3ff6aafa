// Builds elements, and shows toasts, notices and dialogs. Text from outside only ever becomes a text node.

/** Return a new element. `on…` are listeners, `css` sets properties through CSSOM, null and false leave an attribute out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") css(element, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set style properties; a style attribute would break the Content-Security-Policy. */
export function css(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
}

export const fill = (element, ...children) => element.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));

const shown = new WeakMap();
/** Fill an element again only when what it shows, `state`, has changed; the button that has the focus keeps it. */
export function refill(element, state, children) {
  const text = JSON.stringify(state);
  if (shown.get(element) === text) return;
  shown.set(element, text);
  const focus = element.contains(document.activeElement) ? document.activeElement.textContent : null;
  fill(element, children());
  if (focus === null) return;
  const buttons = [...element.querySelectorAll("button:enabled, a[href]")];
  (buttons.find(({ textContent }) => textContent === focus) ?? buttons[0])?.focus();
}

/** Set the text of an element, without touching the document when it is the same. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return a button. Pressed again while its change is under way it does nothing. */
export function button(label, onclick, kind = "") {
  let changing = false;
  const press = async (event) => {
    if (changing) return;
    changing = true;
    try {
      await onclick(event);
    } finally {
      changing = false;
    }
  };
  return h("button", { type: "button", class: `btn ${kind}`, onclick: press }, label);
}

export const notice = (...text) => h("p", { class: "notice" }, ...text);

/** A row of buttons of which one is chosen. `options` are [value, label] pairs. */
export function segments(label, options, chosen, onchange) {
  const group = h("div", { class: "seg", role: "group", "aria-label": label });
  const choose = (value) => {
    for (const one of group.children) one.setAttribute("aria-pressed", one.dataset.value === value);
  };
  for (const [value, text] of options) {
    const click = () => {
      choose(value);
      onchange(value);
    };
    group.append(h("button", { type: "button", "data-value": value, onclick: click }, text));
  }
  choose(chosen);
  return group;
}

/** A labelled choice. `options` are [value, label] pairs. */
export function select(label, options, onchange) {
  const list = h("select", { onchange: () => onchange(list.value) }, options.map(([value, text]) => h("option", { value }, text)));
  return h("label", { class: "field" }, h("span", {}, label), list);
}

/** Call `move(event)` as the pointer of the event `pressed` moves, until it is released. */
export function drag(element, pressed, move) {
  element.setPointerCapture(pressed.pointerId);
  const over = new AbortController();
  const listen = (type, listener) => element.addEventListener(type, (event) => event.pointerId === pressed.pointerId && listener(event), { signal: over.signal });
  listen("pointermove", move);
  for (const type of ["pointerup", "pointercancel"]) listen(type, () => over.abort());
}

/** Show a sentence for 8 seconds, with a way back where there is one. */
export function toast(text, undo = null, label = "Undo") {
  const box = h("p", { class: "toast" }, h("span", {}, text));
  if (undo) {
    const back = () => {
      box.remove();
      undo();
    };
    box.append(button(label, back, "quiet s"));
  }
  document.getElementById("toasts").replaceChildren(box);
  setTimeout(() => box.remove(), 8000);
}

/** Run a change of the user; a refusal becomes a toast. Return whether it worked. */
export async function attempt(work, success = null, undo = null) {
  try {
    await work();
  } catch (error) {
    toast(error.message);
    return false;
  }
  if (success) toast(success, undo);
  return true;
}

/** Show a modal dialog until it is closed; Escape closes it. Return the element. */
export function dialog(label, ...content) {
  const element = h("dialog", { "aria-label": label }, ...content);
  element.addEventListener("close", () => element.remove());
  element.addEventListener("click", (event) => event.target === element && element.close());
  document.body.append(element);
  element.showModal();
  return element;
}

/** A switch with its label; `set(on)` shows a state, `onchange(on)` is called when it is pressed. */
export function toggle(label, onchange) {
  const element = h("button", { type: "button", role: "switch", class: "switch", "aria-checked": "false" }, h("span", {}, label), h("i", {}));
  element.addEventListener("click", () => onchange(element.getAttribute("aria-checked") !== "true"));
  return { element, set: (on) => element.setAttribute("aria-checked", on) };
}

export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Plain HTTP gives no access to the clipboard.
    const field = h("textarea", { class: "offscreen", "aria-hidden": "true" });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast(done);
}
