// The form that asks for the password: a page of its own at first, a dialog over the page when a session is over.
import { get, request } from "./api.js?v=__BUILD__";
import { T } from "./text.js?v=__BUILD__";
import { dialog, h, notice, say } from "./ui.js?v=__BUILD__";

function form(deviceName, sentence, done) {
  const password = h("input", { id: "password", type: "password", autocomplete: "current-password", required: true });
  const show = () => {
    const hidden = password.type === "password";
    password.type = hidden ? "text" : "password";
    say(shown, hidden ? "Hide" : "Show");
    password.focus();
  };
  const shown = h("button", { type: "button", class: "btn quiet", "aria-label": "Show or hide the password", onclick: show }, "Show");
  const stay = h("input", { type: "checkbox", checked: true });
  const submit = h("button", { class: "btn main" }, "Sign in");
  const refusal = h("p", { class: "refusal", role: "alert" });
  let timer = 0;

  const countDown = (seconds) => {
    clearTimeout(timer);
    submit.disabled = seconds > 0;
    say(refusal, seconds > 0 ? T.wait(seconds) : "");
    if (seconds > 0) timer = setTimeout(countDown, 1000, seconds - 1);
  };
  const send = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await request("POST", "api/session", { body: { password: password.value, stay: stay.checked }, ask: false });
    } catch (error) {
      submit.disabled = false;
      if (error.status === 429) countDown(Math.ceil(error.retryAfter) || 10);
      else say(refusal, error.status === 401 ? T.wrongPassword : error.message);
      password.focus();
      password.select();
      return;
    }
    submit.disabled = false;
    done();
  };
  return h(
    "form",
    { class: "login", onsubmit: send },
    // Password managers file the password under this name.
    h("input", { class: "offscreen", type: "text", autocomplete: "username", value: deviceName, tabindex: "-1", "aria-hidden": "true", readonly: true }),
    h(sentence ? "h2" : "h1", {}, deviceName),
    sentence && notice(sentence),
    h("label", { for: "password" }, "Password"),
    h("div", { class: "row tight" }, password, shown),
    h("label", { class: "check" }, stay, "Stay signed in for 30 days"),
    refusal,
    submit,
  );
}

/** Ask for the password in place of the page; resolve when the user has signed in. */
export function signIn(main, deviceName) {
  return new Promise((done) => {
    main.replaceChildren(form(deviceName, null, done));
    main.querySelector("#password").focus();
  });
}

let asking = null;
/** Ask for the password over the page, which stays as it is; resolve when the user has signed in. */
export function signInAgain() {
  asking ??= (async () => {
    const { device_name: name } = await get(["session"]);
    await new Promise((done) => {
      const close = () => {
        box.close();
        done();
      };
      const box = dialog("Sign in", form(name, T.sessionOver, close));
      box.addEventListener("cancel", (event) => event.preventDefault());
      box.querySelector("#password").focus();
    });
  })().finally(() => (asking = null));
  return asking;
}
