// The page: which documents are asked for, how often, and who shows them.
import { $, make, setPill, setText, show } from "./dom.js";
import { Poller, State } from "./poll.js";
import { clock } from "./format.js";
import { DriftView, stateOf as driftState } from "./drift.js";
import { HealthView, stateOf as healthState } from "./health.js";
import { LatencyView } from "./latency.js";
import { Traffic, stateOf as trafficState } from "./traffic.js";
import { phaseTone, showBundle, showModels, showProbes, showRollout, stateOf as servingState } from "./serving.js";

// Every so many rounds of two seconds.
const EVERY = { slis: 1, latency: 1, drift: 2, history: 2, "health-of-model": 2, bundle: 5, probes: 5 };

const traffic = new Traffic();
const latency = new LatencyView();
const drift = new DriftView();
const health = new HealthView();
const figures = new Map();
let models = { source: "tap", models: [] };
let chosen = null;
let latest = {};
let rounds = 0;

const showing = {
  slis: (document) => traffic.show(document),
  latency: (document) => latency.show(document),
  drift: (document) => drift.show(document),
  history: (document) => drift.remember(document),
  "health-of-model": (document) => health.show(document),
  bundle: (document) => showBundle(document),
  probes: (document) => showProbes(document, Date.now() / 1000),
};

function current() {
  const wanted = decodeURIComponent(location.hash.slice(1));
  return models.models.find((model) => model.name === wanted) ?? models.models[0];
}

function choose(model) {
  if (chosen === model.name) return;
  chosen = model.name;
  latest = {};
  rounds = 0;
  for (const view of [traffic, latency, drift, health]) view.clear();
}

async function round(get) {
  models = (await get("page/models")) ?? models;
  const model = current();
  if (!model) return;
  choose(model);
  const due = model.documents.filter((name) => rounds % EVERY[name] === 0 || latest[name] == null);
  rounds += 1;
  const asked = due.map(async (name) => [name, await get(model.api + (name === "history" ? drift.path : name))]);
  const others = models.models.filter((one) => one !== model && one.documents.includes("slis"));
  const overview = others.map(async (one) => [one.name, await get(`${one.api}slis`)]);
  const answers = await Promise.all(asked);
  for (const [name, document] of await Promise.all(overview)) figures.set(name, document ?? undefined);
  if (chosen !== current()?.name) return; // another model was chosen meanwhile
  for (const [name, document] of answers) {
    if (document == null) continue;
    latest[name] = document;
    showing[name](document);
  }
  figures.set(model.name, latest.slis);
  showAll(model);
}

function showAll(model) {
  setText($("title"), model.name);
  setText($("version"), `version ${model.version}`);
  setPill($("phase"), model.phase, phaseTone(model.phase));
  showModels(models.models, model.name, figures);
  showRollout(models.source, model);
  if (!model.documents.includes("bundle") && model.phase !== "Starting") {
    showBundle(null);
    showProbes(null, 0);
  }
  for (const [id, path] of [["slis", "slis"], ["drift", "drift"], ["history", "history"], ["health", "health-of-model"], ["metrics", "metrics"]]) {
    $(`link-${id}`).setAttribute("href", model.api + path);
  }
  attend([
    ...servingState(model, latest.bundle, latest.probes),
    ...(latest.drift ? driftState(latest.drift) : []),
    ...(latest["health-of-model"] ? healthState(latest["health-of-model"]) : []),
    ...(latest.slis ? trafficState(latest.slis) : []),
  ]);
}

// Told to screen readers, so only when it changes.
function attend(found) {
  const watched = latest.drift?.state === "watching" && latest.drift.sufficient;
  const calm = watched ? ["ok", "Nothing needs attention."] : ["idle", "Nothing needs attention; drift is not judged (yet), see below."];
  const items = found.length ? found : [calm];
  const bad = found.filter(([tone]) => tone === "bad").length;
  document.title = `${bad ? `(${bad}) ` : ""}${chosen} · Latentry`;
  const list = $("attention-list");
  const old = [...list.children].map((item) => item.className + item.textContent);
  if (old.join("\n") === items.map(([tone, text]) => tone + text).join("\n")) return;
  list.replaceChildren(...items.map(([tone, text]) => make("li", { className: tone }, text)));
}

let retryAt = 0;
const LINKS = { [State.LIVE]: ["ok", "Live"], [State.PAUSED]: ["warn", "Paused"], [State.HIDDEN]: ["warn", "Paused, hidden"], [State.LOST]: ["bad", "Connection lost"] };

function told(state, waitMs) {
  const [tone, text] = LINKS[state];
  $("link").className = `dot ${tone}`;
  const lost = state === State.LOST;
  retryAt = lost ? Date.now() + waitMs : 0;
  const since = poller.lastMs ? `These figures are of ${clock(poller.lastMs / 1000)}.` : "There are no figures yet.";
  setText($("link-text"), text);
  show($("lost"), lost);
  setText($("lost-text"), lost ? `Connection lost. ${since}` : "");
  document.body.classList.toggle("stale", lost);
  countDown();
}

function countDown() {
  if (retryAt) setText($("lost-wait"), `Next try in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s`);
}

const poller = new Poller(round, told);
setInterval(countDown, 1000);
$("pause").addEventListener("click", () => {
  const paused = $("pause").getAttribute("aria-pressed") !== "true";
  $("pause").setAttribute("aria-pressed", String(paused));
  poller.pause(paused);
});
$("retry").addEventListener("click", () => poller.now());
addEventListener("hashchange", () => {
  if (current()) {
    choose(current());
    showAll(current());
  }
  poller.now();
});
poller.run();
