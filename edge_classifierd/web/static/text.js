// How values are written, and the sentences of the page.

export const percent = (value) => `${Math.round(value * 100)}\u00a0%`;

export const time = (iso) => (iso ? new Date(iso) : new Date()).toLocaleTimeString([], { hour12: false });

export const dateTime = (iso) => `${new Date(iso).toLocaleDateString()} ${time(iso)}`;

export function day(iso) {
  const date = new Date(iso);
  const days = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(date).setHours(0, 0, 0, 0)) / 864e5);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return date.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

export function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

export const times = (n) => (n === 1 ? "once" : n === 2 ? "twice" : `${n} times`);

export const megabytes = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} GB` : `${value < 10 ? value.toFixed(1) : Math.round(value)} MB`);

export const accelerator = (name) => (!name ? "" : name === "cpu" ? "on the CPU" : `on the Edge TPU ${name}`);

/** Why a pipeline's camera delivers no pictures, one sentence; null when it does. */
export function absence({ enabled, online, resting, offline_reason: reason }) {
  if (!enabled) return T.off;
  if (resting && resting.why !== "gate") return T[resting.why](resting.until);
  return online ? null : reason || T.offline;
}

export const T = {
  notConnected: (s) => `Not connected for ${duration(s)}. What you see may be old. Trying again by itself.`,
  refused: "Not connected: nothing was changed. Try again when the connection is back.",
  updated: "The device was updated.",
  wrongPassword: "Wrong password. Forgotten? This command on the device sets a new one: sudo edge-classifierd web password",
  wait: (s) => `Too many attempts. Try again in ${duration(s)}.`,
  sessionOver: "Your session is over. Sign in to go on.",
  signedInAgain: "Signed in. Repeat your last change.",
  off: "The camera is switched off.",
  training: (until) => `Paused while a model is trained${until ? `, until ${time(until).slice(0, 5)} at the latest` : ""}`,
  schedule: (until) => (until ? `Off until ${time(until).slice(0, 5)}` : "Off by its schedule"),
  gate: "Nothing moves",
  offline: "The camera delivers no pictures.",
  viewers: "All places are taken: others are looking on already. Scores and events go on; the picture is tried again every 5 seconds.",
  slow: "slow link",
  noPicture: "No picture",
  waiting: "Waiting for the first picture",
  nothingWatched: "No pipeline runs on this device. Add one to the configuration file; docs/configuration.md has the keys.",
  noEvents: "No events yet. An event is made when the confidence of something watched reaches its threshold.",
  noEventsHere: "No events match these filters.",
  asOf: (iso) => `as of ${time(iso)}`,
  thresholdSummary: (at, runs, seconds, span) =>
    runs ? `At ${percent(at)}: about ${times(runs)}, ${duration(seconds)} in the last ${span}.` : `At ${percent(at)}: never in the last ${span}.`,
  highest: (watch, peak, span) => (peak === null ? `${watch}: no values in the last ${span}` : `${watch}, last ${span}: highest ${percent(peak)}`),
  thresholdSet: (watch, value) => `Threshold of ${watch}: ${percent(value)}`,
  regionSet: "Region set",
  regionHelp: "Drag the rectangle or its handles, draw a new one, or use the arrow keys (with Shift in larger steps).",
  pictureTaken: "The next picture is published.",
  copied: "Copied",
  doctor: "Tests cameras, Edge TPU, models, broker, disk, clock and supply. It does not disturb what runs.",
  examining: "Examining. This takes up to a minute.",
  noWarnings: "No warnings since the start.",
  notTrained: "not yet trained",
  unknownLicence: "not stated",
  asConfigured: (what) => `As configured: ${what}`,
  asInTheFile: "Everything is as in the configuration file.",
  reload: "Reads the configuration file again. Pipelines that did not change go on undisturbed.",
  reloaded: (changed) => (changed ? `Reloaded: ${changed} changed.` : "Reloaded: nothing changed."),
  notReloaded: "The file has mistakes. Everything goes on as before.",
  noProblems: "The checker finds no mistakes.",
  draft: "Change the text and check it. Nothing is saved: carry the result into the file on the device, where secrets stand in place of `!credential hidden`.",
};
