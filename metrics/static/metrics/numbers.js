import { DebouncedSet } from "../backoffice/debounced_set.js";
import { fetchDocument, live } from "../backoffice/live.js";
import { load } from "../backoffice/loading.js";
import { updatesIn } from "./updates.js";

const DASHBOARD = "dashboard";
const ANY_RECORD = "records"; // among the keys of the dashboard's frame
const TIMEOUT_MS = 10_000;
const WAIT_MS = 100;
const PAUSE_MS = 1_000;
const SPREAD_MS = 2_000; // pages do not all ask at once when a web process has restarted
const COUNTED_ROW = "tr[data-id]:has([data-added])";
const COUNTED_MS = 1_000; // then what was committed before is counted, and was perhaps not pushed to this page

/** A part of a page that shows figures: it is fetched again when they change, and replaced number by number. */
export class LivePart {
  #refreshes = new DebouncedSet((positions) => this.#refresh(Math.max(...positions)), WAIT_MS, { pauseMs: PAUSE_MS });
  #isConnected = false;

  constructor(element) {
    this.element = element;
    this.body = element.querySelector("[data-figures-body]");
  }

  start() {
    partsOf(this.body); // remember the HTML of the server
    const { topic } = this.element.dataset;
    const refresh = ({ as_of }) => this.#refreshes.add(as_of.position);
    live().subscribe([topic], {
      onEphemeral: (frame) => updatesIn(frame).forEach(refresh),
      onSubscribed: ({ position }) => this.#onSubscribed(position),
      onDenied: () => {},
    });
    if (topic === DASHBOARD) return;
    live().subscribe([DASHBOARD], {
      onEphemeral: (frame) => updatesIn(frame).filter(({ keys }) => keys.includes(ANY_RECORD)).forEach(refresh),
      onDenied: () => {},
    });
  }

  /**
   * Changes up to this position were perhaps not pushed to this page. The server waits until they are counted. After a
   * reconnection the web process may have just started, and have missed frames of changes that are above the position.
   */
  #onSubscribed(position) {
    if (this.#isConnected) setTimeout(() => this.#refreshes.add(position), COUNTED_MS + Math.random() * SPREAD_MS);
    else if (position > this.#position()) this.#refreshes.add(position);
    this.#isConnected = true;
  }

  #position() {
    return Number(this.body.querySelector("[data-position]")?.dataset.position ?? 0);
  }

  async #refresh(position) {
    const address = new URL(this.element.dataset.figures, location.href);
    address.searchParams.set("position", position);
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
    const charts = await load(import("./chart.js"));
    if (!charts) return;
    charts.chartOf(figure).take(fresh);
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

/** Replaces a part; numbers that changed are highlighted. */
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
    live().subscribe([this.element.dataset.topic], {
      onEphemeral: (frame) => updatesIn(frame).forEach((update) => this.#onUpdate(update)),
      onSubscribed: () => setTimeout(() => this.#all(), COUNTED_MS),
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
    for (const row of this.body.querySelectorAll(COUNTED_ROW)) this.#rows.add(row.dataset.id);
  }

  #row(key) {
    return this.body.querySelector(`${COUNTED_ROW}[data-id="${CSS.escape(key)}"]`);
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
