import uPlot from "./vendor/uplot/uPlot.esm.js";
import { make } from "../backoffice/dom.js";
import { _ } from "../backoffice/words.js";

const HEIGHT = 200;
const BAR_SHARE = 0.72;
const PAGE = 7; // moments that Page Up and Page Down move by
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3], [14, 4]];
const LANGUAGE = document.documentElement.lang || undefined;
const UTC = { timeZone: "UTC" };

/** The options of `Intl.DateTimeFormat` for the time axis, by what a moment stands for. */
const AXIS_FORMATS = {
  time: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  hour: { day: "numeric", month: "short" },
  day: { day: "numeric", month: "short", ...UTC },
  month: { month: "short", year: "numeric", ...UTC },
};

const numbers = new Intl.NumberFormat(LANGUAGE, { notation: "compact" });
const shares = new Intl.NumberFormat(LANGUAGE, { style: "percent", maximumFractionDigits: 1 });

const charts = new WeakMap();

/** The interactive chart of a `[data-chart]` figure; one per figure. */
export function chartOf(figure, options) {
  if (!charts.has(figure)) charts.set(figure, new Chart(figure, options));
  return charts.get(figure);
}

/**
 * Draws the data of a figure with uPlot in place of the server's drawing, which stays for paper. The pointer, or the
 * arrow keys once the chart has the focus, choose a moment; its values are read from the table, in the words of the
 * server. `take` shows the data of a newer figure; `set` shows data in the form of `metrics/charts/model.py`.
 *
 * Options for charts that change by themselves: `data` in place of that in the figure, `words(place)` in place of the
 * table, `zone`, the time zone of the axis, and `fill: true` for the height of the figure's plot.
 */
export class Chart {
  #plot = null;
  #data;
  #chosen = null;
  #byKeys = false;

  constructor(figure, { data = dataOf(figure), words = null, zone = undefined, fill = false } = {}) {
    Object.assign(this, { figure, words, zone, fill });
    this.readout = figure.querySelector("[data-readout]");
    this.#data = data;
    this.box = make("div", "chart-canvas");
    Object.assign(this.box, { tabIndex: 0, role: "group" });
    this.box.setAttribute("aria-roledescription", _("chart"));
    this.box.setAttribute(
      "aria-label",
      `${figure.querySelector("figcaption").textContent.trim()} ${_("Arrow keys choose a moment.")}`,
    );
    figure.querySelector("[data-plot]").append(this.box);
    figure.classList.add("is-drawn");
    this.readout.hidden = false;
    this.box.addEventListener("keydown", (event) => this.#onKey(event));
    this.box.addEventListener("blur", () => this.#choose(null));
    new ResizeObserver(() => this.#resize()).observe(this.box);
    const theme = new MutationObserver(() => this.#redraw());
    theme.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  /** Shows a newer version of this figure, as the server drew it. */
  take(fresh) {
    for (const selector of ["figcaption", ".chart-legend", ".plot", "table", "script"]) {
      const [old, now] = [this.figure.querySelector(selector), fresh.querySelector(selector)];
      if (old && now) old.replaceWith(now);
    }
    this.set(dataOf(this.figure));
  }

  set(data) {
    const same = data.series.length === this.#data.series.length && data.kind === this.#data.kind;
    this.#data = data;
    if (!same) this.#redraw();
    else this.#plot?.setData(columnsOf(data));
    this.#show();
  }

  // -- drawing ----------------------------------------------------------------------------------------------------

  #resize() {
    const width = Math.floor(this.box.clientWidth);
    if (width <= 0) return; // hidden, or printed
    const height = this.#height();
    if (this.#plot === null) this.#draw(width);
    else if (width !== this.#plot.width || height !== this.#plot.height) this.#plot.setSize({ width, height });
  }

  #height() {
    return (this.fill && Math.floor(this.box.clientHeight)) || HEIGHT;
  }

  #redraw() {
    this.#plot?.destroy();
    this.#plot = null;
    this.#resize();
  }

  #draw(width) {
    const { kind, step, unit, series, moments } = this.#data;
    const style = getComputedStyle(this.figure);
    const [ink, line] = ["--ink-quiet", "--line"].map((name) => resolved(this.figure, name));
    const font = `11.5px ${style.fontFamily}`;
    const text = new Intl.DateTimeFormat(LANGUAGE, { timeZone: this.zone, ...AXIS_FORMATS[step] });
    const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const options = {
      width,
      height: this.#height(),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
      padding: [12, 20, 0, 0],
      scales: {
        x: { time: true, range: (_plot, low, high) => padded(low, high, kind === "bar", moments.length) },
        y: { range: (_plot, _low, high) => [0, high > 0 ? high * 1.05 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          grid: { show: false },
          space: 70,
          values: (_plot, splits) => splits.map((at) => text.format(new Date(at * 1000))),
        },
        { ...axis, size: 54, incrs: incrementsOf(unit), values: (_plot, splits) => splits.map((v) => valueText(v, unit)) },
      ],
      series: [{}, ...seriesOf(this.#data, this.figure)],
      bands: bandsOf(kind, series.length),
      hooks: { drawClear: [(plot) => this.#drawSpans(plot)], setCursor: [(plot) => this.#onCursor(plot)] },
    };
    const zone = step === "day" || step === "month" ? "UTC" : this.zone;
    if (zone) options.tzDate = (at) => uPlot.tzDate(new Date(at * 1000), zone);
    this.#plot = new uPlot(options, columnsOf(this.#data), this.box);
  }

  /** Shaded parts, such as episodes of alerts, behind the series. */
  #drawSpans(plot) {
    const { left, top, width, height } = plot.bbox;
    for (const { start, end, severity } of this.#data.spans ?? []) {
      const at = (moment) => Math.min(Math.max(plot.valToPos(moment, "x", true), left), left + width);
      const [from, to] = [at(start), end === null ? left + width : at(end)];
      plot.ctx.save();
      plot.ctx.globalAlpha = 0.18;
      plot.ctx.fillStyle = resolved(this.figure, severity === "critical" ? "--bad" : "--warn");
      plot.ctx.fillRect(from, top, Math.max(2, to - from), height);
      plot.ctx.restore();
    }
  }

  // -- the chosen moment ------------------------------------------------------------------------------------------

  #onKey(event) {
    const last = this.#data.moments.length - 1;
    const now = this.#chosen ?? last + 1;
    const moves = {
      ArrowLeft: now - 1,
      ArrowRight: this.#chosen === null ? 0 : now + 1,
      PageUp: now - PAGE,
      PageDown: now + PAGE,
      Home: 0,
      End: last,
    };
    if (event.key === "Escape") this.#choose(null);
    else if (event.key in moves) this.#choose(Math.min(Math.max(moves[event.key], 0), last));
    else return;
    event.preventDefault();
  }

  #choose(place) {
    this.#byKeys = place !== null;
    this.#chosen = place;
    const plot = this.#plot;
    if (plot) {
      const left = place === null ? -10 : plot.valToPos(this.#data.moments[place], "x");
      plot.setCursor({ left, top: place === null ? -10 : 0 }, false);
    }
    this.#show();
  }

  #onCursor(plot) {
    if (this.#byKeys && !plot.cursor.event) return; // drawn again, not moved
    this.#byKeys = false;
    this.#chosen = plot.cursor.idx ?? null;
    this.#show();
  }

  /** The values of the chosen moment, from the table. Only those chosen by keys are announced. */
  #show() {
    const [level, words] = [this.#byKeys ? "polite" : "off", this.#chosen === null ? "" : this.#words(this.#chosen)];
    if (this.readout.getAttribute("aria-live") !== level) this.readout.setAttribute("aria-live", level);
    if (this.readout.textContent !== words) this.readout.textContent = words;
  }

  #words(place) {
    if (this.words) return this.words(place);
    const table = this.figure.querySelector("table");
    const row = table.tBodies[0].rows[table.tBodies[0].rows.length - 1 - place]; // the newest is first
    if (!row) return "";
    const labels = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
    const values = [...row.cells].slice(1).map((cell, number) => `${labels[number]} ${cell.textContent.trim()}`);
    return `${row.cells[0].textContent.trim()}: ${values.join(", ")}`;
  }
}

function dataOf(figure) {
  return JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
}

/** The data as uPlot takes it: moments, then series. Bars are stacked and drawn from the whole stack downwards. */
function columnsOf({ kind, moments, values, low, high }) {
  if (kind === "band") return [moments, ...values.flatMap((line, n) => [high[n], low[n], line])];
  if (kind !== "bar") return [moments, ...values];
  const sums = new Array(moments.length).fill(0);
  const stacked = values.map((column) => column.map((value, place) => (sums[place] += value ?? 0)));
  return [moments, ...stacked.reverse()];
}

function seriesOf({ kind, series }, figure) {
  const drawn = series.map(({ label, colour }) => {
    const stroke = resolved(figure, `--series-${colour}`);
    const dash = DASHES[colour % DASHES.length];
    if (kind === "bar") {
      const paths = uPlot.paths.bars({ size: [BAR_SHARE, 60, 1] });
      return { label, paths, fill: patterned(stroke, colour, resolved(figure, "--surface")), stroke, width: 0, points: { show: false } };
    }
    return { label, stroke, width: colour ? 1.75 : 2.5, dash, points: { show: alone }, spanGaps: false };
  });
  if (kind === "bar") return drawn.reverse();
  if (kind !== "band") return drawn;
  return drawn.flatMap((line) => {
    const edge = { ...line, stroke: "transparent", width: 0, points: { show: false } };
    return [{ ...edge, fill: line.stroke }, edge, line];
  });
}

function bandsOf(kind, count) {
  if (kind !== "band") return [];
  return Array.from({ length: count }, (_each, n) => ({ series: [3 * n + 1, 3 * n + 2] }));
}

/** Points are drawn only for values between two gaps, which have no line. */
function alone(plot, number) {
  const column = plot.data[number];
  return column.some((value, place) => value !== null && column[place - 1] == null && column[place + 1] == null);
}

/** The colour of a series of bars; from the second on with lines in it. */
function patterned(colour, number, ground) {
  if (number === 0) return colour;
  const tile = make("canvas");
  tile.width = tile.height = 8;
  const pen = tile.getContext("2d");
  pen.fillStyle = ground; // the columns behind must not shine through
  pen.fillRect(0, 0, 8, 8);
  pen.fillStyle = pen.strokeStyle = colour;
  pen.globalAlpha = 0.45;
  pen.fillRect(0, 0, 8, 8);
  pen.globalAlpha = 1;
  pen.lineWidth = 2;
  pen.beginPath();
  if (number % 2) {
    pen.moveTo(-2, 10);
    pen.lineTo(10, -2);
  } else {
    pen.arc(4, 4, 1, 0, 2 * Math.PI);
  }
  pen.stroke();
  return () => pen.createPattern(tile, "repeat");
}

/** The colour that a custom property stands for in the present theme. */
function resolved(element, property) {
  const probe = make("i");
  probe.style.color = `var(${property})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

function padded(low, high, isBars, count) {
  if (low === high) return [low - 43_200, high + 43_200];
  const half = isBars ? (high - low) / (count - 1) / 2 : 0;
  return [low - half, high + half];
}

function incrementsOf(unit) {
  if (unit === "seconds") return [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18_000, 36_000, 86_400];
  if (unit === "share") return [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5];
  return [1, 2, 5].flatMap((n) => Array.from({ length: 12 }, (_each, power) => n * 10 ** power)).sort((a, b) => a - b);
}

function valueText(value, unit) {
  if (unit === "share") return shares.format(value);
  if (unit === "milliseconds" && value < 1000) return _("%(n)s ms", { n: numbers.format(value) });
  if (unit === "milliseconds") return _("%(n)s s", { n: numbers.format(value / 1000) });
  if (unit !== "seconds") return numbers.format(value);
  if (value < 60) return _("%(n)s s", { n: value });
  if (value < 3600) return _("%(n)s min", { n: numbers.format(value / 60) });
  return _("%(n)s h", { n: numbers.format(value / 3600) });
}
