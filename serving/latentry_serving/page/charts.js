// uPlot with the page's colours, as wide as its place, drawn anew when light turns to dark.
import { clock } from "./format.js";
import { make } from "./dom.js";

const probe = make("span", { hidden: true });

// A custom property as a canvas takes it.
export function colour(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

function axis(extra) {
  const line = { stroke: colour("grid"), width: 1 };
  const font = "12px system-ui, sans-serif";
  return { stroke: colour("muted"), grid: line, ticks: { ...line, size: 4 }, font, ...extra };
}

export class Chart {
  // options(): uPlot's, asked for at every drawing anew; its size is the place's.
  constructor(place, options) {
    this.place = place;
    this.options = options;
    this.shape = "";
    this.plot = null;
    this.data = null;
    new ResizeObserver(() => this.resize()).observe(place);
    document.addEventListener("latentry-theme", () => this.redraw());
  }

  // shape: what of the options depends on the data; another one makes another plot.
  set(data, shape = "") {
    this.data = data;
    if (this.plot && this.shape === shape) {
      this.plot.setData(data);
      return;
    }
    this.shape = shape;
    this.redraw();
  }

  redraw() {
    this.plot?.destroy();
    this.plot = null;
    if (!this.data || !this.place.clientWidth) return;
    const size = { width: this.place.clientWidth, height: this.place.clientHeight };
    this.plot = new uPlot({ legend: { show: false }, ...size, ...this.options() }, this.data, this.place);
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.place;
    if (!width) return;
    if (!this.plot) this.redraw();
    else if (this.plot.width !== width || this.plot.height !== height) this.plot.setSize({ width, height });
  }
}

// Series over time below a line at 1, where an alarm is; alarms(): [from, to] in Unix seconds, shaded.
export function timelineOptions({ series, alarms, hover }) {
  return {
    padding: [10, 28, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { y: { range: (plot, low, high) => [0, Math.max(1.25, (high ?? 1) * 1.08)] } },
    axes: [
      axis({ size: 30, values: (plot, splits) => splits.map((at) => clock(at)), space: 90 }),
      axis({ size: 44, values: (plot, splits) => splits.map((v) => (v >= CAP ? `≥ ${CAP}` : v)) }),
    ],
    series: [
      {},
      ...series.map(({ label, tone, dash }) => ({
        label,
        stroke: colour(tone),
        width: 2,
        dash,
        spanGaps: true,
        points: { show: (plot) => plot.data[0].length < 60, size: 5 },
      })),
    ],
    hooks: {
      drawClear: [(plot) => shade(plot, alarms())],
      draw: [(plot) => threshold(plot)],
      setCursor: [(plot) => hover(plot.cursor.idx)],
    },
  };
}

export const CAP = 3;

function shade(plot, spans) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colour("bad-soft");
  for (const [from, to] of spans) {
    const left = plot.valToPos(from, "x", true);
    ctx.fillRect(left, bbox.top, Math.max(3, plot.valToPos(to, "x", true) - left), bbox.height);
  }
  ctx.restore();
}

function threshold(plot) {
  const { ctx, bbox } = plot;
  const y = plot.valToPos(1, "y", true);
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour("bad");
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.font = `600 ${12 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "left";
  ctx.textBaseline = "bottom";
  ctx.fillText("alarm", bbox.left + 6 * devicePixelRatio, y - 3 * devicePixelRatio);
  ctx.restore();
}

// Bars side by side; name(index): what stands below one; marks(): [[place on the axis, text]], lines across.
export function barOptions({ name, marks = () => [], every = 1, value = (v) => v }) {
  return {
    padding: [18, 28, 0, 0],
    cursor: { show: false },
    scales: {
      x: { time: false, range: (plot, low, high) => [(low ?? 0) - 0.6, (high ?? 1) + 0.6] },
      y: { range: (plot, low, high) => [0, Math.max(high ?? 1, 1e-9) * 1.1] },
    },
    axes: [
      axis({
        size: 30,
        grid: { show: false },
        splits: (plot) => plot.data[0].filter((index) => index % every === 0),
        values: (plot, splits) => splits.map(name),
      }),
      axis({ size: 56, values: (plot, splits) => splits.map(value) }),
    ],
    series: [{}, { fill: colour("bar"), stroke: colour("bar"), width: 0, paths: uPlot.paths.bars({ size: [0.9, 48] }), points: { show: false } }],
    hooks: { draw: [(plot) => mark(plot, marks())] },
  };
}

function mark(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.fillStyle = ctx.strokeStyle = colour("text");
  ctx.lineWidth = devicePixelRatio;
  ctx.font = `600 ${11 * devicePixelRatio}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "bottom";
  let free = -Infinity;
  for (const [place, text] of marks) {
    const x = plot.valToPos(place, "x", true);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const half = ctx.measureText(text).width / 2;
    if (x - half > free) {
      ctx.fillText(text, x, bbox.top - 2 * devicePixelRatio);
      free = x + half + 4 * devicePixelRatio;
    }
  }
  ctx.restore();
}

// Values from old to new as a line without axes.
export function spark(svg, values) {
  const known = values.filter((value) => value != null);
  const line = svg.firstElementChild ?? svg.appendChild(document.createElementNS(svg.namespaceURI, "polyline"));
  const highest = Math.max(...known, 1e-12);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(23 - (22 * (value ?? 0)) / highest).toFixed(1)}`);
  line.setAttribute("points", known.length > 1 ? points.join(" ") : "");
}

