// Rates, errors and quantiles of the last minute, and the connections.
import { $, setRows, setTerms, setText } from "./dom.js";
import { spark } from "./charts.js";
import { DASH, age, count, plural, rate, seconds, share, words } from "./format.js";

const REMEMBERED = 150; // answers, five minutes of them: the small lines are of this page's life
const FAULTS = ["server_error", "deadline_exceeded", "upstream_unavailable", "reset"];

export class Traffic {
  constructor() {
    this.clear();
  }

  clear() {
    this.memory = { rate: [], errors: [], p50: [], p90: [], p99: [], flight: [] };
    for (const name of Object.keys(this.memory)) {
      setText($(`tile-${name}`), DASH);
      setText($(`tile-${name}-sub`), "");
      spark($(`spark-${name}`), []);
    }
    setText($("traffic-span"), "");
    setRows($("operations"), [], "No figures yet.");
    setTerms($("connections"), []);
  }

  show(slis) {
    const { recent, total, inFlight } = slis.inference;
    const latency = recent.latencySeconds;
    this.tile("rate", recent.requestsPerSecond, rate, `${count(total.requests)} since the start`);
    this.tile("errors", recent.errorRatio, share, `${failed(recent)} of ${count(recent.requests)} · ${failed(total)} since the start`);
    for (const name of ["p50", "p90", "p99"]) {
      this.tile(name, latency[name], seconds, `${seconds(total.latencySeconds[name])} since the start`);
    }
    this.tile("flight", inFlight, count, `${plural(sum(Object.values(slis.connections)), "connection")} open`);
    $("tile-errors").parentElement.classList.toggle("bad", recent.errorRatio > 0);
    setText($("traffic-span"), `unary inference of the last ${age(recent.seconds)}; the tap is up for ${age(slis.uptimeSeconds)}`);
    const used = slis.operations.filter((row) => row.total.requests || row.inFlight);
    const idle = new Set(slis.operations.map((row) => row.operation));
    for (const row of used) idle.delete(row.operation);
    setRows($("operations"), used.map(operation), "No request yet.");
    setText($("operations-idle"), idle.size ? `Without a request so far: ${[...idle].join(", ")}.` : "");
    setTerms($("connections"), connections(slis));
  }

  tile(name, value, format, sub) {
    const past = this.memory[name];
    past.push(value);
    if (past.length > REMEMBERED) past.shift();
    setText($(`tile-${name}`), format(value));
    setText($(`tile-${name}-sub`), sub);
    spark($(`spark-${name}`), past);
  }
}

export function failed(figures) {
  return count(sum(FAULTS.map((outcome) => figures.outcomes[outcome] ?? 0)));
}

function sum(values) {
  return values.reduce((all, value) => all + value, 0);
}

function operation(row) {
  const { recent, total } = row;
  const latency = recent.latencySeconds;
  const others = Object.entries(total.outcomes).filter(([outcome, times]) => outcome !== "ok" && times);
  const kind = row.kind === "unary" ? "" : ` (${row.kind})`;
  return {
    key: `${row.operation} ${row.protocol} ${row.kind}`,
    tone: recent.errorRatio > 0 ? "bad" : "",
    cells: [
      row.operation + kind,
      row.protocol,
      rate(recent.requestsPerSecond),
      share(recent.errorRatio),
      seconds(latency.p50),
      seconds(latency.p90),
      seconds(latency.p99),
      count(row.inFlight),
      count(total.requests),
      others.map(([outcome, times]) => `${count(times)} ${words(outcome)}`).join(", ") || DASH,
    ],
  };
}

function connections(slis) {
  const open = Object.entries(slis.connections).map(([protocol, now]) => [`Open, ${protocol}`, count(now)]);
  return [...open, ["Not followed (opaque)", reasons(slis.opaqueConnections)], ["Refused", reasons(slis.refusedConnections)]];
}

function reasons(counts) {
  const seen = Object.entries(counts).filter(([, times]) => times);
  return seen.map(([reason, times]) => `${count(times)} ${words(reason)}`).join(", ") || "none";
}

export function stateOf(slis) {
  const { recent } = slis.inference;
  const found = [];
  if (recent.errorRatio > 0) {
    found.push(["bad", "Requests failed by the server's fault in the last minute."]); // without figures: read out once
  }
  const opaque = sum(Object.values(slis.opaqueConnections));
  if (opaque) found.push(["warn", "Some connections could not be followed: their calls are not in these figures."]);
  return found;
}
