// The model's health: what it measures against what the reference taught, and KL dimension by dimension.
import { $, setPill, setRows, setTerms, setText, show } from "./dom.js";
import { Chart, barOptions } from "./charts.js";
import { age, capital, count, moment, number, pValue, share, words } from "./format.js";

const VERDICTS = { healthy: ["healthy", "ok"], unhealthy: ["unhealthy", "bad"], insufficient_data: ["insufficient data", "warn"] };

export class HealthView {
  constructor() {
    this.clear();
    this.chart = new Chart($("kl-chart"), () =>
      barOptions({
        name: String,
        every: Math.max(1, Math.ceil((this.count ?? 1) / ($("kl-chart").clientWidth / 34))),
        value: (v) => number(v, 3),
      }),
    );
  }

  clear() {
    setPill($("health-state"), "waiting", "idle");
    setText($("health-family"), "");
    setText($("health-detail"), "");
    show($("health-body"), false);
  }

  show(health) {
    const watching = health.state === "watching";
    const [text, tone] = watching ? VERDICTS[health.verdict] : [words(health.state), health.state === "broken" ? "bad" : "idle"];
    setPill($("health-state"), text, tone);
    setText($("health-family"), health.family);
    const notes = health.parts.flatMap((part) => part.notes);
    const why = health.detail && `${capital(health.detail)}.`;
    setText($("health-detail"), [why, ...notes.map((note) => `${capital(note)}.`)].filter(Boolean).join(" "));
    show($("health-body"), health.parts.length > 0);
    setRows($("measures"), health.parts.flatMap((part) => part.measures.map((one) => measure(part, one))), "No window was judged yet.");
    setTerms($("health-parts"), terms(health));
    this.dimensions(health);
  }

  dimensions(health) {
    const kl = health.parts.flatMap((part) => part.measures).find((one) => one.measure === "kl_total");
    const values = kl?.details.perDimension;
    const known = Array.isArray(values) && values.length > 0;
    show($("kl"), known);
    if (!known) return;
    this.count = values.length;
    this.chart.set([values.map((_, index) => index), values], String(values.length));
    setText($("kl-summary"), `Of the latest window, ${number(kl.value)} nats together, ${number(kl.expected)} expected. Furthest from the reference: dimensions ${(kl.details.furthest ?? []).join(", ") || "none"}.`);
    const most = Math.max(...values, 1e-12);
    setRows($("kl-table"), values.map((value, index) => ({ key: String(index), cells: [String(index), { text: number(value), bar: value / most }] })));
  }
}

function measure(part, one) {
  const alarm = one.alarmSinceSeconds != null;
  const state = alarm ? { text: "unhealthy", pill: "bad" } : one.pValue == null ? { text: "information", pill: "idle" } : { text: "ok", pill: "ok" };
  const meaning = alarm ? `${one.reason}; since ${moment(one.alarmSinceSeconds)}` : one.reason;
  return {
    key: `${part.part} ${one.measure}`,
    tone: alarm ? "bad" : "",
    cells: [words(one.measure), part.part, state, number(one.value), number(one.expected), one.unit, pValue(one.pValue), { text: capital(meaning), wrap: true }],
  };
}

function terms(health) {
  const items = health.parts.map((part) => {
    const [text] = VERDICTS[part.state];
    const seen = part.windows ? `last full window ${age(part.secondsSinceFullWindow)} ago` : `${count(part.held)} of ${count(part.window)} collected`;
    return [capital(part.part), `${text}; ${count(part.windows)} windows of ${count(part.window)}, ${seen}`];
  });
  if (health.scores) {
    const { traffic, probes, withinThreshold, anomalous } = health.scores;
    const all = traffic + probes;
    items.push(["Scored requests", `${count(traffic)} of users, ${count(probes)} probes`]);
    items.push(["Within the quality objective", all ? `${share(withinThreshold / all)} (error at most ${number(health.scores.threshold)})` : "none scored yet"]);
    items.push(["Anomalous", all ? `${share(anomalous / all)} (error above ${number(health.scores.anomalyThreshold)})` : "none scored yet"]);
  }
  if (health.scoreProbes.failed) items.push(["Score probes that failed", `${count(health.scoreProbes.failed)}; the last: ${health.scoreProbes.lastFailure}`]);
  return items;
}

export function stateOf(health) {
  if (health.verdict !== "unhealthy") return [];
  const bad = health.parts.flatMap((part) => part.measures).filter((one) => one.alarmSinceSeconds != null);
  return [["bad", `The model is unhealthy: ${bad.map((one) => words(one.measure)).join(", ") || "see its measures"}.`]];
}
