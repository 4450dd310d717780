import { DebouncedSet } from "../backoffice/debounced_set.js";
import { fetchDocument, live } from "../backoffice/live.js";

const EVENT = "metrics.updated";
const TIMEOUT_MS = 10_000;
const WAIT_MS = 100;
const PAUSE_MS = 1_000;

/** The `metrics.updated` values in an ephemeral frame, which may be one of several in a batch. */
export function updatesIn(frame) {
  const values = frame.data.updates ?? [frame];
  return values.filter((value) => value.event === EVENT).map((value) => value.data);
}

/** A part of a page that shows figures: it is fetched again when they change, and replaced number by number. */
export class LivePart {
  #refreshes = new DebouncedSet((positions) => this.#refresh(Math.max(...positions)), WAIT_MS, { pauseMs: PAUSE_MS });

  constructor(element) {
    this.element = element;
    this.body = element.querySelector("[data-figures-body]");
  }

  start() {
    partsOf(this.body); // remember the HTML of the server
    live().subscribe([this.element.dataset.topic], {
      onEphemeral: (frame) => updatesIn(frame).forEach(({ as_of }) => this.#refreshes.add(as_of.position)),
      // Changes between the page and now were not pushed to it. What is not counted yet will be pushed.
      onSubscribed: ({ position }) => position > this.#position() && this.#refreshes.add(0),
      onDenied: () => {},
    });
  }

  #position() {
    return Number(this.body.querySelector("[data-position]")?.dataset.position ?? 0);
  }

  async #refresh(position) {
    const address = new URL(this.element.dataset.figures, location.href);
    if (position) address.searchParams.set("position", position);
    const { page } = await fetchDocument(address.href, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    const [old, now] = [partsOf(this.body), partsOf(page.body)];
    for (const [name, part] of now) {
      const shown = old.get(name);
      if (!shown || shown.source === part.source) continue;
      if ("chart" in part.dataset) await this.#redraw(shown, part);
      else replace(shown, part);
    }
  }

  async #redraw(figure, fresh) {
    const { source } = fresh;
    const { chartOf } = await import("./chart.js");
    chartOf(figure).take(fresh);
    figure.source = source;
  }
}

/** name -> part; `source` is its HTML as the server sent it. */
function partsOf(root) {
  const parts = new Map();
  for (const part of root.querySelectorAll("[data-part]")) {
    part.source ??= part.outerHTML;
    parts.set(part.dataset.part, part);
  }
  return parts;
}

/** Replaces a part; numbers that changed light up. */
function replace(shown, fresh) {
  for (const number of fresh.querySelectorAll("[data-number]")) {
    const old = shown.querySelector(`[data-number="${CSS.escape(number.dataset.number)}"] .figure-value`);
    if (old && old.textContent !== number.querySelector(".figure-value").textContent) number.classList.add("updated");
  }
  shown.replaceWith(fresh);
}

/** The cells of a list that counters fill. A frame names the rows that changed; an empty one means any. */
export class LiveCells {
  #rows = new DebouncedSet((keys) => this.#refresh(keys), WAIT_MS, { pauseMs: PAUSE_MS });
  #last = null; // position of the last frame

  constructor(element) {
    this.element = element;
    this.body = element.querySelector("[data-list-body]");
  }

  start() {
    if (!this.body.querySelector("[data-added]")) return;
    live().subscribe([this.element.dataset.topic], {
      onEphemeral: (frame) => updatesIn(frame).forEach((update) => this.#onUpdate(update)),
      onSubscribed: () => this.#all(),
      onDenied: () => {},
    });
  }

  #onUpdate({ keys, previous, as_of }) {
    const missed = this.#last !== null && this.#last !== previous; // a later frame replaced one
    this.#last = as_of.position;
    if (missed || !keys.length) this.#all();
    else keys.filter((key) => this.#row(key)).forEach((key) => this.#rows.add(key));
  }

  #all() {
    for (const row of this.body.querySelectorAll("tr[data-id]")) this.#rows.add(row.dataset.id);
  }

  #row(key) {
    return this.body.querySelector(`tr[data-id="${CSS.escape(key)}"]`);
  }

  async #refresh(keys) {
    const address = `${this.element.dataset.rows}?ids=${keys.join(",")}`;
    const { page } = await fetchDocument(address, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    for (const key of keys) {
      const [row, fresh] = [this.#row(key), page.querySelector(`tr[data-id="${CSS.escape(key)}"]`)];
      if (!row || !fresh) continue;
      const [cells, values] = [row, fresh].map((each) => [...each.querySelectorAll("[data-added]")]);
      if (cells.length !== values.length) continue;
      cells.forEach((cell, number) => {
        if (cell.innerHTML !== values[number].innerHTML) cell.replaceChildren(...values[number].childNodes);
      });
    }
  }
}
