import { chartOf } from "../chart.js";
import { make } from "../../backoffice/dom.js";
import { _ } from "../../backoffice/words.js";
import { chartUnit, valueText } from "./numbers.js";
import { SLOT_SECONDS, SlotSeries, stateOfAge } from "./slots.js";

const LANGUAGE = document.documentElement.lang || undefined;
const TABLE_ROWS = 60;
const LONG_SECONDS = 2 * 86_400; // from here on the axis shows days
const MOMENT = { dateStyle: "short", timeStyle: "medium", hourCycle: "h23" };
const JITTER_MS = 2_000;
const RETRY_MS = 30_000;

/** A tile of metrics: its numbers follow the frames, its chart joins them to the history. */
export class MetricTile {
  #series = null;
  #chart = null;
  #rows = null;
  #refill = null;
  #changed = false;

  /** `board`: {historyUrl, range, zone, live}. */
  constructor(element, board) {
    this.element = element;
    this.board = board;
    this.body = element.querySelector("[data-metric-body]");
    this.age = element.querySelector("[data-tile-age]");
    this.slot = Number(this.body.dataset.slot) || null;
    this.numbers = [...this.body.querySelectorAll("[data-number]")];
    this.table = this.body.querySelector("[data-metric-table]");
    const data = this.body.querySelector("script[type='application/json']");
    this.live = data ? JSON.parse(data.textContent) : null;
    if (this.live) this.#open();
  }

  #open() {
    const { step, slot, points, kind } = this.live;
    this.#series = new SlotSeries({ step, slot, points, kind });
    this.#rows = columnsOf(points);
    const figure = this.body.querySelector("[data-metric-chart]");
    if (figure) {
      const words = (place) => this.#words(place);
      this.#chart = chartOf(figure, { data: this.#data(), words, zone: this.board.zone, fill: true });
      this.caption = figure.querySelector("[data-caption]");
      this.title = this.element.querySelector("[data-tile-name]").textContent.trim();
    }
    this.table?.addEventListener("toggle", () => this.#drawTable());
  }

  /** Takes a sample: `values` by metric. One that has no metric of this tile is ignored. */
  take({ slot, previous, values }) {
    const shown = this.numbers.filter((number) => number.dataset.number in values && !number.dataset.target);
    if (shown.length && (this.slot === null || slot > this.slot)) {
      this.slot = slot;
      for (const number of shown) {
        const { unit, valueKind } = number.dataset;
        number.textContent = valueText(values[number.dataset.number], unit, valueKind);
      }
    }
    if (!this.live?.live || !(this.live.metric in values)) return;
    const outcome = this.#series.take(slot, values[this.live.metric], previous);
    if (outcome === "drop") return;
    this.#changed = true;
    if (outcome === "refill") this.#refillLater();
  }

  /** Reads the samples that were missed while the page was paused. */
  catchUp() {
    if (!this.live?.live) return;
    this.#series.missAfterLast();
    this.#refillLater();
  }

  /** Draws the changes since the last call; called at most once a frame, and not while the page is hidden. */
  draw() {
    if (!this.#changed) return;
    this.#changed = false;
    this.#rows = this.#series.rows();
    this.#chart?.set(this.#data());
    if (this.caption) this.caption.textContent = this.#summary();
    this.#drawTable();
  }

  /** Marks values that are older than three slots, in the accessible name too. */
  showAge(presentSlot) {
    const seconds = this.slot === null ? null : Math.max(0, (presentSlot - this.slot) * SLOT_SECONDS);
    const state = stateOfAge(seconds);
    for (const name of ["fresh", "late", "silent"]) this.body.classList.toggle(`is-${name}`, name === state);
    const words = {
      fresh: "",
      late: _("%(n)s s ago", { n: seconds }),
      silent: seconds === null ? _("no values") : _("no values for %(n)s s", { n: seconds }),
    }[state];
    if (this.age.textContent.trim() !== words) this.age.textContent = words;
  }

  // -- the missing part -------------------------------------------------------------------------------------------

  #refillLater(wait = Math.random() * JITTER_MS) {
    this.#refill ??= setTimeout(() => this.#read(), wait);
  }

  async #read() {
    const asked = new URLSearchParams(this.board.range);
    asked.set("metric", this.live.metric);
    asked.set("step", `${this.live.step}s`);
    asked.set("after", Math.max(0, this.#series.refillAfter));
    asked.set("tz", this.board.zone);
    let wait = JITTER_MS / 4;
    try {
      const answer = await fetch(`${this.board.historyUrl}?${asked}`, { signal: AbortSignal.timeout(10_000) });
      if (!answer.ok) throw new Error(`${answer.status} ${answer.url}`);
      this.#series.merge(await answer.json());
      this.#changed = true;
    } catch (error) {
      console.warn("history:", error.message);
      wait = RETRY_MS * Math.random();
    }
    this.#refill = null;
    if (this.#series.incomplete) this.#refillLater(wait);
    this.board.redraw();
  }

  // -- drawing ----------------------------------------------------------------------------------------------------

  #data() {
    const { unit, kind, step, metric } = this.live;
    const { times, low, average, high } = this.#rows;
    const [drawn, factor] = chartUnit(unit, kind);
    const scaled = (column) => column.map((value) => (value === null ? null : value * factor));
    const long = times.length && times.at(-1) - times[0] > LONG_SECONDS;
    return {
      kind: step > SLOT_SECONDS ? "band" : "line",
      unit: drawn,
      step: long ? "hour" : "time",
      moments: times,
      series: [{ label: metric, colour: 0 }],
      values: [scaled(average)],
      low: [scaled(low)],
      high: [scaled(high)],
      spans: this.live.spans,
    };
  }

  #text(value) {
    return valueText(value, this.live.unit, this.live.kind);
  }

  #time(at) {
    return new Intl.DateTimeFormat(LANGUAGE, { ...MOMENT, timeZone: this.board.zone }).format(new Date(at * 1000));
  }

  #words(place) {
    const { times, low, average, high } = this.#rows;
    if (average[place] === null) return _("%(time)s: no value", { time: this.#time(times[place]) });
    const words = { time: this.#time(times[place]), value: this.#text(average[place]) };
    if (low[place] === high[place]) return _("%(time)s: %(value)s", words);
    const range = { low: this.#text(low[place]), high: this.#text(high[place]) };
    return _("%(time)s: %(value)s, from %(low)s to %(high)s", { ...words, ...range });
  }

  #summary() {
    const known = this.#rows.average.filter((value) => value !== null);
    if (!known.length) return _("%(title)s: no data.", { title: this.title });
    const values = {
      title: this.title,
      now: this.#text(known.at(-1)),
      low: this.#text(Math.min(...this.#rows.low.filter((value) => value !== null))),
      average: this.#text(known.reduce((sum, value) => sum + value, 0) / known.length),
      high: this.#text(Math.max(...this.#rows.high.filter((value) => value !== null))),
    };
    return _("%(title)s: now %(now)s, lowest %(low)s, average %(average)s, highest %(high)s.", values);
  }

  /** The open table: at most sixty rows, the newest first. */
  #drawTable() {
    if (!this.table?.open || !this.live) return;
    const { times, low, average, high } = this.#rows;
    const size = Math.ceil(times.length / TABLE_ROWS) || 1;
    const rows = [];
    for (let start = 0; start < times.length; start += size) {
      const part = (column) => column.slice(start, start + size).filter((value) => value !== null);
      const [lows, averages, highs] = [part(low), part(average), part(high)];
      const mean = averages.length ? averages.reduce((sum, value) => sum + value, 0) / averages.length : null;
      const cells = [averages.length ? Math.min(...lows) : null, mean, averages.length ? Math.max(...highs) : null];
      const row = make("tr");
      const head = make("th", "", this.#time(times[start]));
      head.scope = "row";
      row.append(head, ...cells.map((value) => make("td", "", this.#text(value))));
      rows.unshift(row);
    }
    this.table.querySelector("tbody").replaceChildren(...rows);
  }
}

function columnsOf(points) {
  const column = (place) => points.map((point) => point[place]);
  return { times: column(0), low: column(1), average: column(2), high: column(3), counts: column(4) };
}
