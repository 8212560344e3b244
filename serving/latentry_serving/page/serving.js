// What serves: the models, the bundle, its golden probes, a rollout.
import { $, setPill, setRows, setTerms, setText, show } from "./dom.js";
import { DASH, age, bytes, count, moment, number, rate, seconds, share, words } from "./format.js";

const PHASES = { Ready: "ok", Starting: "warn", Restarting: "warn", "Not ready": "bad", Failed: "bad", Stopped: "idle" };
const BUNDLES = { verified: "ok", checking: "warn", refused: "bad" };
const NO_BUNDLE = "This tap was given no bundle: it measures traffic only.";

export function phaseTone(phase) {
  return PHASES[phase] ?? "idle";
}

// figures: model -> its latest SLIs.
export function showModels(models, chosen, figures) {
  show($("models-section"), models.length > 1);
  setRows(
    $("models"),
    models.map((model) => {
      const recent = figures.get(model.name)?.inference.recent;
      return {
        key: model.name,
        tone: phaseTone(model.phase) === "bad" ? "bad" : "",
        cells: [
          { text: model.name, href: `#${encodeURIComponent(model.name)}`, current: model.name === chosen },
          model.version,
          { text: model.phase, pill: phaseTone(model.phase) },
          rate(recent?.requestsPerSecond),
          share(recent?.errorRatio),
          seconds(recent?.latencySeconds.p99),
          { text: model.message || DASH, wrap: true },
        ],
      };
    }),
  );
}

export function showBundle(bundle) {
  setPill($("bundle-state"), bundle ? words(bundle.state) : "none", bundle ? (BUNDLES[bundle.state] ?? "idle") : "idle");
  setText($("bundle-detail"), bundle ? bundle.problems.join("; ") : NO_BUNDLE);
  if (!bundle) {
    setTerms($("bundle"), []);
    return;
  }
  const loaded = Object.entries(bundle.models).map(([name, there]) => `${name} ${there ? "loaded" : "not loaded"}`);
  setTerms($("bundle"), [
    ["Version", bundle.version],
    ["Size", bytes(bundle.bytes)],
    ["Models", loaded.join(", ") || "loaded by Triton itself"],
    ["Digest", { text: bundle.digest, mono: true }],
    ["Promised digest", bundle.promised == null ? "none was given" : { text: bundle.promised === bundle.digest ? "the same" : bundle.promised, mono: bundle.promised !== bundle.digest }],
  ]);
}

export function showProbes(probes, nowSeconds) {
  show($("probes-body"), Boolean(probes));
  if (!probes) {
    setPill($("probes-state"), "none", "idle");
    setText($("probes-detail"), NO_BUNDLE);
    return;
  }
  const run = probes.operations.filter((one) => one.outcome);
  const [text, tone] = probes.passed ? ["passed", "ok"] : run.length < probes.operations.length ? ["not run yet", "warn"] : ["failing", "bad"];
  setPill($("probes-state"), text, tone);
  const late = Object.entries(probes.postponed).filter(([, times]) => times);
  setText($("probes-detail"), late.length ? `Postponed: ${late.map(([why, times]) => `${count(times)} for ${words(why)}`).join(", ")}.` : "");
  setRows(
    $("probes"),
    probes.operations.map((one) => ({
      key: one.operation,
      tone: one.outcome && one.outcome !== "passed" ? "bad" : "",
      cells: [
        one.operation,
        { text: one.outcome ? words(one.outcome) : "not run yet", pill: one.outcome === "passed" ? "ok" : one.outcome ? "bad" : "idle" },
        number(one.largestError, 3),
        seconds(one.durationSeconds),
        { text: one.lastRunTimestampSeconds == null ? DASH : `${age(Math.max(0, nowSeconds - one.lastRunTimestampSeconds))} ago${one.detail ? `: ${one.detail}` : ""}`, wrap: Boolean(one.detail) },
      ],
    })),
    "No operation is probed.",
  );
}

export function showRollout(source, model) {
  const { rollout } = model;
  if (rollout) {
    setPill($("rollout-state"), words(rollout.state), "warn");
    setText($("rollout-detail"), rollout.message);
    setTerms($("rollout"), [
      ["From", rollout.fromVersion],
      ["To", rollout.toVersion],
      ["Traffic on the new version", share(rollout.share)],
      ["Since", moment(rollout.sinceSeconds)],
    ]);
    return;
  }
  setPill($("rollout-state"), "none", "idle");
  setText(
    $("rollout-detail"),
    source === "up"
      ? `No rollout is under way: version ${model.version} takes all traffic.`
      : "A tap knows its own replica only. Rollouts are in the LatentModel's conditions, and on the page of latentry up.",
  );
  setTerms($("rollout"), [["State here", { text: model.phase, pill: phaseTone(model.phase) }], ["Version", model.version]]);
}

export function stateOf(model, bundle, probes) {
  const found = [];
  if (model.phase !== "Ready") found.push([phaseTone(model.phase), `${model.phase}${model.message ? `: ${model.message}` : ""}`]);
  if (bundle?.state === "refused") found.push(["bad", `The bundle is refused: ${bundle.problems.join("; ")}`]);
  for (const one of probes?.operations ?? []) {
    if (one.outcome && one.outcome !== "passed") found.push(["bad", `The golden probe of ${one.operation} fails: ${words(one.outcome)}. ${one.detail}`]);
  }
  return found;
}
