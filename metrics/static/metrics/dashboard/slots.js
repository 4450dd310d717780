/**
 * Joins live frames to stored history by slot numbers, so that a chart has no gap, no value twice and no time out of
 * order. Pure: history and frames in, rows out. A slot is five seconds.
 */

export const SLOT_SECONDS = 5;
const KEPT_SLOTS = 120; // newest values, to fold them into a history that was read before they came

/** The buckets of one metric, each `step` seconds long. `percentile` keeps the newest value instead of the average. */
export class SlotSeries {
  #buckets = new Map(); // start in seconds -> [low, sum, high, count]
  #recent = new Map(); // slot -> value
  #holes = []; // [first, last] of the slots that were not received

  constructor({ step, slot = null, points = [], kind = "gauge" }) {
    this.step = step;
    this.last = slot;
    this.latest = kind === "percentile";
    this.first = points.length ? points[0][0] : null;
    this.seconds = points.length * step;
    this.#store(points);
  }

  /**
   * Takes the value of a slot (null where it is missing). Returns `append`, `drop` for a slot that is known or older, or
   * `refill` where slots before it were not received: read the history after `refillAfter`, then call `merge`.
   * `previous` is the slot sampled before this one: slots between the two were not sampled and are not missing.
   */
  take(slot, value, previous = slot - 1) {
    if (this.last !== null && slot <= this.last) return "drop";
    const known = this.last;
    this.last = slot;
    this.#recent.set(slot, value);
    for (const old of this.#recent.keys()) if (old < slot - KEPT_SLOTS) this.#recent.delete(old);
    this.#fold(slot, value);
    if (known === null || previous === null || previous <= known) return "append";
    this.#holes.push([known + 1, previous]);
    return "refill";
  }

  /** Whether slots are missing that a history may have. */
  get incomplete() {
    return this.#holes.length > 0;
  }

  /** Marks everything after the last known slot as missing: after a reconnect, or a time in the background. */
  missAfterLast() {
    if (this.last !== null) this.#holes.push([this.last + 1, Infinity]);
  }

  /** The slot after which the history is to be read: the bucket of the first missing slot is read as a whole. */
  get refillAfter() {
    return this.#bucketOf(this.#holes[0][0]) / SLOT_SECONDS - 1;
  }

  /** Merges a history: its buckets replace those of the chart; newer values from frames are added again. */
  merge({ slot, points }) {
    const until = slot ?? -1;
    this.#holes = this.#holes
      .filter(([, last]) => last > until && last !== Infinity)
      .map(([first, last]) => [Math.max(first, until + 1), last]);
    this.#store(points);
    const replaced = new Set(points.map(([at]) => at));
    for (const [newer, value] of this.#recent) {
      if (newer > until && replaced.has(this.#bucketOf(newer))) this.#fold(newer, value);
    }
    if (slot !== null && (this.last === null || slot > this.last)) this.last = slot;
  }

  /** Columns of the chart, one row for every bucket up to the last slot; null in gaps. */
  rows() {
    const columns = { times: [], low: [], average: [], high: [], counts: [] };
    if (this.last === null || this.first === null) return columns;
    const end = this.#bucketOf(this.last);
    const start = Math.max(this.first, end - this.seconds + this.step);
    for (const at of [...this.#buckets.keys()]) if (at < start) this.#buckets.delete(at);
    for (let at = start; at <= end; at += this.step) {
      const [low, sum, high, count] = this.#buckets.get(at) ?? [null, null, null, 0];
      columns.times.push(at);
      columns.low.push(low);
      columns.average.push(count ? sum / count : null);
      columns.high.push(high);
      columns.counts.push(count);
    }
    return columns;
  }

  #bucketOf(slot) {
    return Math.floor((slot * SLOT_SECONDS) / this.step) * this.step;
  }

  #store(points) {
    for (const [at, low, average, high, count] of points) {
      if (count) this.#buckets.set(at, [low, average * count, high, count]);
      else this.#buckets.delete(at);
    }
  }

  #fold(slot, value) {
    if (value === null || value === undefined) return;
    const at = this.#bucketOf(slot);
    this.first ??= at;
    const known = this.#buckets.get(at);
    if (!known || this.latest) this.#buckets.set(at, [value, value, value, 1]);
    else this.#buckets.set(at, [Math.min(known[0], value), known[1] + value, Math.max(known[2], value), known[3] + 1]);
  }
}

/** The frames of samples in an ephemeral frame, which may be one of several values in a batch. */
export function samplesIn(frame) {
  return valuesIn(frame).filter(({ event }) => event === "system.metrics").map(({ data }) => data);
}

/** The widgets that an ephemeral frame names as changed. */
export function widgetsIn(frame) {
  return valuesIn(frame).filter(({ event }) => event === "dashboard.widget.update").map(({ data }) => data.widget_id);
}

function valuesIn(frame) {
  return frame.data.updates ?? [frame];
}

/** The age of the newest sample: fresh, late (more than three slots) or silent (more than 30 seconds). */
export function stateOfAge(seconds) {
  if (seconds === null || seconds > 30) return "silent";
  return seconds > 3 * SLOT_SECONDS ? "late" : "fresh";
}
