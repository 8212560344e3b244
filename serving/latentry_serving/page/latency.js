// How long calls took, as bars an eighth of an octave wide.
import { $, setOptions, setRows, setText } from "./dom.js";
import { Chart, barOptions } from "./charts.js";
import { count, seconds, share } from "./format.js";

const QUANTILES = [["p50", 0.5], ["p90", 0.9], ["p99", 0.99]];

export class LatencyView {
  constructor() {
    this.clear();
    this.chart = new Chart($("latency-chart"), () =>
      barOptions({
        name: (index) => seconds(this.edges[index]),
        every: Math.max(1, Math.ceil(this.edges.length / ($("latency-chart").clientWidth / 78))),
        marks: () => this.marks,
        value: (v) => (Number.isInteger(v) ? count(v) : ""),
      }),
    );
    for (const id of ["latency-of", "latency-span"]) $(id).addEventListener("change", () => this.draw());
  }

  clear() {
    this.document = null;
    this.edges = [];
    this.marks = [];
    setText($("latency-summary"), "No figures yet.");
    setRows($("latency-table"), [], "No request.");
  }

  show(document) {
    this.document = document;
    const several = document.operations.map((one) => [name(one), name(one)]);
    setOptions($("latency-of"), [["", "all unary inference"], ...several]);
    this.draw();
  }

  draw() {
    if (!this.document) return;
    const chosen = this.document.operations.find((one) => name(one) === $("latency-of").value);
    const { edgesSeconds, ...spans } = (chosen ?? { histogram: this.document.inference }).histogram;
    const { edges, counts } = trimmed(edgesSeconds, spans[$("latency-span").value]);
    const total = counts.reduce((all, one) => all + one, 0);
    this.edges = edges;
    this.marks = total ? QUANTILES.map(([label, part]) => [place(counts, total * part), label]) : [];
    this.chart.set([counts.map((_, index) => index), counts], edges.join());
    const where = QUANTILES.map(([label], index) => `${label} ${seconds(at(edges, this.marks[index]?.[0]))}`);
    setText($("latency-summary"), total ? `${count(total)} requests that ended ok; ${where.join(", ")}.` : "No request that ended ok in this time.");
    setRows($("latency-table"), rows(edges, counts, total), "No request.");
  }
}

function name(one) {
  return `${one.operation}, ${one.protocol}${one.kind === "unary" ? "" : `, ${one.kind}`}`;
}

// Without the empty ends; the last minute may use a part of the range only.
function trimmed(edges, counts) {
  const first = counts.findIndex((one) => one > 0);
  if (first < 0) return { edges: [], counts: [] };
  const last = counts.findLastIndex((one) => one > 0);
  return { edges: edges.slice(first, last + 2), counts: counts.slice(first, last + 1) };
}

// Where on the axis so many requests are to the left: bar i reaches from i - 0.5 to i + 0.5.
function place(counts, rank) {
  let below = 0;
  for (const [index, one] of counts.entries()) {
    if (one && below + one >= rank) return index - 0.5 + (rank - below) / one;
    below += one;
  }
  return counts.length - 0.5;
}

function at(edges, where) {
  if (where == null) return null;
  const index = Math.min(edges.length - 2, Math.floor(where + 0.5));
  return edges[index] + (edges[index + 1] - edges[index]) * (where + 0.5 - index);
}

function rows(edges, counts, total) {
  return counts.flatMap((one, index) =>
    one ? [{ key: String(edges[index]), cells: [seconds(edges[index]), seconds(edges[index + 1]), count(one), { text: share(one / total), bar: one / total }] }] : [],
  );
}
