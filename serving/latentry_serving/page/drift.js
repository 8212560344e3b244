// Drift: how near every statistic is to an alarm, now and before, and what alarms are about.
import { $, make, setOptions, setPill, setRows, setText, show } from "./dom.js";
import { CAP, Chart, timelineOptions } from "./charts.js";
import { DASH, age, capital, clock, count, moment, number, pValue, share, words } from "./format.js";

const TONES = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6"];
const STATES = { ok: ["ok", "ok"], alarm: ["alarm", "bad"], insufficient_data: ["insufficient data", "idle"] };
const ROWS = 200;

// 0: nothing to see; 1: an alarm. The larger of how far the p-value and the CUSUM are on their way, by the rules:
// p at most alpha, or evidence above h.
export function nearness(p, alpha, evidence, h) {
  const byP = p == null || alpha >= 1 ? 0 : Math.log(Math.max(p, 1e-300)) / Math.log(alpha);
  const bySum = h > 0 ? evidence / h : 0;
  return Math.max(0, byP, bySum);
}

function near(one) {
  return one.pValue == null ? null : nearness(one.pValue, one.alpha, one.evidence, one.cusumH);
}

export class DriftView {
  constructor() {
    this.clear();
    this.chart = new Chart($("drift-chart"), () =>
      timelineOptions({ series: this.series, alarms: () => this.alarms, hover: (index) => this.legend(index) }),
    );
    $("drift-of").addEventListener("change", () => this.draw());
  }

  clear() {
    this.history = new Map();
    this.since = null;
    this.last = 0;
    this.series = [];
    this.alarms = [];
    this.table = [[]];
    setPill($("drift-state"), "waiting", "idle");
    setText($("drift-detail"), "");
    show($("drift-body"), false);
    show($("drift-choices"), false);
    $("alarms").replaceChildren();
  }

  // What to ask the history for: points that may have grown since are asked for again.
  get path() {
    return `history?since=${Math.max(0, this.last - this.spacing)}`;
  }

  spacing = 0;

  show(drift) {
    const watching = drift.state === "watching";
    const [text, tone] = verdict(drift);
    setPill($("drift-state"), text, tone);
    setText($("drift-detail"), watching ? budget(drift) : `${capital(words(drift.state))}: ${drift.detail}.`);
    show($("drift-body"), drift.tensors.length > 0);
    show($("drift-choices"), drift.tensors.length > 0);
    setOptions($("drift-of"), [["", "all tensors"], ...drift.tensors.map(({ tensor }) => [tensor, tensor])]);
    setRows($("tensors"), drift.tensors.map((tensor) => summary(tensor, drift.window)));
    setRows($("statistics"), drift.tensors.flatMap((tensor) => tensor.statistics.map((one) => statistic(tensor.tensor, one))));
    this.showAlarms(drift.tensors.flatMap((tensor) => tensor.statistics.flatMap((one) => one.alarm ?? [])));
  }

  showAlarms(alarms) {
    const place = $("alarms");
    const signature = JSON.stringify(alarms);
    if (place.signature === signature) return;
    place.signature = signature;
    const tensors = [...new Set(alarms.map((alarm) => alarm.tensor))];
    place.replaceChildren(...tensors.map((tensor) => alarmCard(tensor, alarms.filter((alarm) => alarm.tensor === tensor))));
  }

  remember(answer) {
    if (this.since !== answer.sinceSeconds) this.history.clear(); // the tap was started again
    this.since = answer.sinceSeconds;
    this.spacing = answer.spacingSeconds;
    const from = this.last - this.spacing;
    for (const part of answer.statistics) {
      const key = `${part.tensor}\n${part.statistic}`;
      const points = part.timesSeconds.map((time, i) => ({
        time,
        p: part.pValues[i],
        alpha: part.alphas[i],
        evidence: part.evidence[i],
        h: part.cusumH[i],
        alarm: part.alarms[i],
        near: nearness(part.pValues[i], part.alphas[i], part.evidence[i], part.cusumH[i]),
      }));
      const kept = (this.history.get(key)?.points ?? []).filter((point) => point.time <= from);
      this.history.set(key, { tensor: part.tensor, statistic: part.statistic, points: [...kept, ...points].slice(-answer.points) });
    }
    this.last = Math.max(0, ...[...this.history.values()].map(({ points }) => points.at(-1)?.time ?? 0));
    this.draw();
  }

  draw() {
    const chosen = $("drift-of").value;
    const parts = [...this.history.values()].filter(({ tensor }) => !chosen || tensor === chosen);
    const lines = new Map();
    for (const { tensor, statistic, points } of parts) {
      const name = chosen ? words(statistic) : tensor;
      lines.set(name, furthest(lines.get(name), points));
    }
    this.series = [...lines.keys()].map((label, i) => ({ label, tone: TONES[i % TONES.length], dash: i < TONES.length ? undefined : [6, 3] }));
    const times = [...new Set([...lines.values()].flatMap((line) => [...line.keys()]))].sort((a, b) => a - b);
    this.table = [times, ...[...lines.values()].map((line) => times.map((time) => line.get(time) ?? null))];
    this.alarms = spans(parts);
    this.chart.set([times, ...this.table.slice(1).map((line) => line.map((v) => (v == null ? null : Math.min(v, CAP))))], `${chosen} ${[...lines.keys()]}`);
    this.legend(null);
    setText($("drift-summary"), caption(parts, times, this.since));
    setRows($("timeline"), timelineRows(parts), "No judged window yet.");
  }

  legend(index) {
    const times = this.table[0];
    const at = index ?? times.length - 1;
    const items = this.series.map(({ label, tone, dash }, i) => {
      const swatch = make("span", { className: dash ? "swatch dashed" : "swatch" });
      swatch.style.borderColor = `var(--${tone})`;
      const value = this.table[i + 1]?.slice(0, at + 1).findLast((known) => known != null);
      return make("li", {}, swatch, `${label} ${value == null ? DASH : value.toFixed(2)}`);
    });
    if (at in times) items.unshift(make("li", {}, moment(times[at])));
    $("drift-legend").replaceChildren(...items);
  }
}

function verdict(drift) {
  if (drift.state !== "watching") return [words(drift.state), drift.state === "broken" ? "bad" : "idle"];
  if (drift.alarm) return ["alarm", "bad"];
  return drift.sufficient ? ["no drift", "ok"] : ["insufficient data", "warn"];
}

function budget(drift) {
  const text = `Windows of ${count(drift.window)} vectors; without drift one false alarm in ${age(drift.expectedRunTimeSeconds)} is expected, of drift and health together`;
  return `${text}${drift.replicas > 1 ? `, over ${drift.replicas} replicas` : ""}.${drift.detail ? ` Note: ${drift.detail}.` : ""}`;
}

function summary(tensor, window) {
  const judged = tensor.statistics.filter((one) => near(one) != null);
  const worst = judged.reduce((most, one) => (most && near(most) >= near(one) ? most : one), null);
  const states = tensor.statistics.map((one) => one.state);
  const state = states.includes("alarm") ? "alarm" : states.includes("ok") ? "ok" : "insufficient_data";
  const [text, pill] = STATES[state];
  const before = tensor.windows ? "" : "none in ";
  return {
    key: tensor.tensor,
    tone: state === "alarm" ? "bad" : "",
    cells: [
      tensor.tensor,
      { text, pill },
      worst ? { text: near(worst).toFixed(2), bar: near(worst) } : DASH,
      worst ? words(worst.statistic) : DASH,
      count(tensor.windows),
      `${count(tensor.held)} of ${count(window)}`,
      tensor.windows ? `${age(tensor.secondsSinceFullWindow)} ago` : `${before}${age(tensor.secondsSinceFullWindow)}`,
    ],
  };
}

function statistic(tensor, one) {
  const [text, pill] = STATES[one.state] ?? [words(one.state), "idle"];
  return {
    key: `${tensor} ${one.statistic}`,
    tone: one.state === "alarm" ? "bad" : "",
    cells: [tensor, words(one.statistic), { text, pill }, pValue(one.pValue), pValue(one.alpha), number(one.evidence, 3), number(one.cusumH, 3), count(one.windows)],
  };
}

// One card for each tensor: several statistics see the same change. The furthest one speaks for them.
function alarmCard(tensor, alarms) {
  const lead = alarms.reduce((most, one) => (beyond(one) > beyond(most) ? one : most));
  const since = Math.min(...alarms.map((alarm) => alarm.sinceSeconds));
  const others = alarms.length > 1 ? `${alarms.length} statistics: ${alarms.map((alarm) => words(alarm.statistic)).join(", ")}` : words(lead.statistic);
  const explained = alarms.map((alarm) => make("pre", {}, alarm.text));
  return make(
    "article",
    { className: "alarm" },
    make("h3", {}, make("span", { className: "pill bad" }, "drift alarm"), tensor),
    make("p", {}, `${lead.event}.`),
    make("p", { className: "muted" }, `Since ${moment(since)}; ${others}.`),
    contributors(tensor, lead),
    make("details", {}, make("summary", {}, "Every explanation"), ...explained),
  );
}

function beyond(alarm) {
  return alarm.rule === "shewhart" ? nearness(alarm.value, alarm.threshold, 0, 0) : nearness(null, 1, alarm.value, alarm.threshold);
}

const HEADS = ["Contributor", "Share", "Mean shift, SD", "Spread, × SD"];

function contributors(tensor, alarm) {
  if (!alarm.dimensions.length) return make("p", { className: "muted" }, "No dimension stands out.");
  const head = make("tr", {}, ...HEADS.map((text, i) => make("th", { scope: "col", className: i > 1 ? "num" : "" }, text)));
  const table = make("table", {}, make("thead", {}, head), make("tbody"));
  const rows = alarm.dimensions.map((part) => ({
    key: String(part.dimension),
    cells: [`dimension ${part.dimension}`, { text: share(part.share), bar: part.share }, number(part.meanShift, 3), number(part.spread, 3)],
  }));
  setRows(table, rows);
  return make("div", { className: "scroll", role: "group", tabIndex: 0, "aria-label": `Contributors to the alarm of ${tensor}` }, table);
}

// The highest of several statistics, time by time.
function furthest(line = new Map(), points) {
  for (const { time, near: value } of points) line.set(time, Math.max(value, line.get(time) ?? 0));
  return line;
}

function spans(parts) {
  return parts.flatMap(({ points }) => {
    const found = [];
    points.forEach((point, i) => {
      if (!point.alarm) return;
      const open = found.at(-1);
      if (open && points[i - 1].alarm) open[1] = point.time;
      else found.push([point.time, point.time]);
    });
    return found;
  });
}

function caption(parts, times, since) {
  if (!times.length) return "No judged window yet.";
  const alarming = parts.filter(({ points }) => points.at(-1)?.alarm);
  const now = alarming.length ? "" : " Nothing is in alarm now.";
  return `How near to an alarm, from ${moment(times[0])} to ${clock(times.at(-1))}; the line at 1 is the threshold, red times were in alarm.${now} Kept since ${moment(since)}.`;
}

function timelineRows(parts) {
  const all = parts.flatMap(({ tensor, statistic, points }) => points.map((point) => ({ tensor, statistic, ...point })));
  all.sort((a, b) => b.time - a.time);
  return all.slice(0, ROWS).map((point) => ({
    key: `${point.time} ${point.tensor} ${point.statistic}`,
    tone: point.alarm ? "bad" : "",
    cells: [moment(point.time), point.tensor, words(point.statistic), pValue(point.p), pValue(point.alpha), number(point.evidence, 3), number(point.h, 3), point.alarm ? "on" : "off"],
  }));
}

export function stateOf(drift) {
  const alarms = drift.tensors.flatMap((tensor) => tensor.statistics.flatMap((one) => one.alarm ?? []));
  if (alarms.length) {
    const tensors = [...new Set(alarms.map((alarm) => alarm.tensor))].join(", ");
    const looks = [...new Set(alarms.map((alarm) => alarm.looksLike))].join(", ");
    return [["bad", `Drift of ${tensors}; looks like ${looks}.`]];
  }
  if (drift.state === "broken") return [["bad", `Drift is not watched: ${drift.detail}.`]];
  return [];
}
