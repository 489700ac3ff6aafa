// The sentences of Teach.
import { duration } from "./text.js?v=__BUILD__";

const count = (n, one, many = `${one}s`) => `${n.toLocaleString()} ${n === 1 ? one : many}`;

const MOST_NAMES = 6;

/** The name of a class; that of everything else has one that explains it. */
export const called = (one) => (one?.unknown && one.name === "unknown" ? S.nothing : one?.name ?? "");

/** The classes as people see them: the first nine with their keys, that of everything else last with 0. */
export function keyed({ classes }) {
  const named = classes.filter(({ unknown }) => !unknown);
  const others = classes.filter(({ unknown }) => unknown);
  return [...named.map((one, i) => ({ ...one, key: i < 9 ? String(i + 1) : "" })), ...others.map((one) => ({ ...one, key: "0" }))];
}

export const S = {
  picture: "Picture",
  count,
  intro: "Show the camera a few things, name them, and let the device learn to tell them apart. It takes about twenty pictures of each. Nothing leaves the device.",
  people: "People who can be seen in pictures have a say in that.",
  begin: "Teach it something",
  all: "All taught models",
  names: (all) => (all.length ? all.slice(0, MOST_NAMES).join(", ") + (all.length > MOST_NAMES ? ` and ${all.length - MOST_NAMES} more` : "") : "no classes yet"),
  noCamera: "No pipeline runs on this device: add one to the configuration file first.",
  nameExample: "The name is that of the model, for example desk or birds; the things that it tells apart get theirs next.",
  nameHelp: "lower-case letters, digits and hyphens",
  inUse: (version, cameras) => (!version ? "not yet trained" : cameras.length ? `version ${version} in use on ${cameras.join(", ")}` : `version ${version}, on no camera`),
  gathered: ({ pictures, recordings }) => `${count(pictures, "picture")} · ${count(recordings, "recording")}`,
  nothing: "nothing of these",
  hold: "Hold to record",
  letGo: "● Recording: let go to stop",
  counting: (s) => `Starts in ${s} · press to cancel`,
  running: (kept, left) => (left === null ? `● ${kept} kept` : `● ${kept} kept · ${left} s`),
  recorded: (kept, similar) => `${count(kept, "picture")} kept, ${similar} too similar`,
  similar: (n) => `${n} too similar`,
  move: "Move it, turn it, change the light: what looks the same is not kept.",
  aim: "Aim at one thing and hold its button. A tap records ten seconds after a countdown.",
  orFiles: "Drop pictures on a class, or a folder here: its name becomes the class.",
  toSort: (n) => `${n.toLocaleString()} to sort`,
  inGroups: (n) => `in ${count(n, "group")}`,
  sortHelp: " of look-alikes, kept because the model was unsure, or because you said it was wrong",
  wholeHelp: "The model of this camera gets the region. Record the whole picture only for a model that will get all of it.",
  groupOf: (i, n, alike) => `group ${i} of ${n} · ${alike === 1 ? "1 picture" : `${alike} alike`}`,
  guess: (name) => `guess: ${name}`,
  broughtIn: (n) => (n ? `${S.count(n, "collected picture")} to sort` : "This camera has collected nothing; see `collect` in the configuration"),
  sorted: "Everything is sorted.",
  train: (s) => (s ? `Train · about ${duration(s)}` : "Train"),
  trainHelp: "The device learns from most pictures and keeps some aside, to measure what it has learnt. You may close the page meanwhile.",
  estimate: (names) => `One recording only: ${S.names(names)}. The result will be an estimate.`,
  corrections: (n, version) => `${count(n, "correction")} since version ${version}: train again?`,
  accurate: "Accurate uses the larger bundled model: it is slower, in training and on the camera.",
  stages: { looking: "Looking at the pictures", copies: "Looking at varied copies", learning: "Learning", measuring: "Measuring" },
  secondsLeft: (s) => `about ${duration(s)} left`,
  starting: "Starting",
  pause: "Pause the cameras meanwhile",
  pauseHelp: "The training then has the whole device. There are no pictures and no events until it ends, for 10 minutes at most.",
  resume: "Resume the cameras",
  cancelled: "Training cancelled. Nothing was changed.",
  trained: "Training is done.",
  undone: "Undone",
  nothingToUndo: "There is nothing to undo.",
  binned: (n) => `${count(n, "picture")} moved to the bin`,
  moved: (n, name) => `${count(n, "picture")} moved to ${name}`,
  chosen: (n) => `${n} chosen`,
  chosenBar: "Chosen pictures",
  to: (name) => `→ ${name}`,
  emptyBin: "The bin is empty.",
  bin: "Pictures are removed for good after 7 days.",
  noPictures: "No pictures yet.",
  rename: "Events, thresholds and pictures stay with it.",
  removed: (name) => `${name} removed`,
  removeBinned: (n) => `Remove ${count(n, "picture")} for good? This cannot be undone.`,
  removeClass: (name, n) => `Remove the class ${name}? ${n ? `Its ${count(n, "picture")} go to the bin.` : ""}`,
  removeUnknown: "Without pictures of nothing in particular, the empty scene, people or rain are taken for one of your classes.",
  removeModel: (name) => `Remove ${name} with its pictures and versions? This cannot be undone.`,
  unreadable: "this browser cannot read it",
  uploads: (done, all) => `${done} of ${all} files`,
  used: (name, version, camera) => `${name}, version ${version}, is in use on ${camera}.`,
  use: (version) => `Use version ${version}`,
  useAnyway: (version) => `Use version ${version} anyway`,
  backTo: (version) => `Back to version ${version}`,
  right: (held) => (held ? `${held.right} of ${held.pictures} right` : "not measured"),
  whatIsIt: "What is it?",
  skipHelp: (model) => `Skipped, it waits under "to sort" of ${model}.`,
  toTeach: (model, name) => `Kept for teaching ${model}: ${name}`,
  samePictures: "On the same pictures, which neither version has learnt from",
  unseen: "On pictures that it has not learnt from",
  mistakes: "Mistakes",
  suspicious: "Pictures that may be in the wrong class",
  takenFor: (of, taken) => `${of}, taken for ${taken}`,
  enlarge: (name) => `Enlarge the picture: ${name}`,
  back: (camera) => `${camera} has its configured model again.`,
  backToModel: (name, version) => (name ? `Back to ${name}, version ${version}` : "Back to the configured model"),
  worse: (version, before) => `Version ${version} does worse than version ${before} on the same pictures.`,
  noVersions: "Not trained yet. Record a few things first.",
};
