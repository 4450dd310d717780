import { DebouncedSet } from "../../backoffice/debounced_set.js";
import { fetchDocument, live } from "../../backoffice/live.js";
import { _ } from "../../backoffice/words.js";
import { MetricTile } from "./metric_tile.js";
import { SLOT_SECONDS, samplesIn, widgetsIn } from "./slots.js";

const LANGUAGE = document.documentElement.lang || undefined;
const DEBOUNCE_MS = 1_000;
// Between two reloads by events. A request costs the server about 10 ms, and many dashboards are open all day.
const PAUSE_MS = 5_000;
const ASKED_MS = 100;
const AT_ONCE = 10;
const RETRY_MS = 15_000;
const TIMEOUT_MS = 10_000;
const UPDATED = "metrics.updated"; // the counters of records
const FOCUSABLE = "a[href], button, summary, [tabindex='0']";

/** The tiles of the page: takes frames and events, refreshes tiles one by one, and marks what is old. */
export class Board {
  #tiles = new Map(); // id -> MetricTile, for tiles of metrics
  // Spread, so that the pages do not all ask in the same moment after a sample.
  #dirty = new DebouncedSet((ids) => this.#refresh(ids), DEBOUNCE_MS * (0.5 + Math.random()), {
    limit: AT_ONCE,
    pauseMs: PAUSE_MS,
  });
  #asked = new DebouncedSet((ids) => this.#refresh(ids), ASKED_MS, { limit: AT_ONCE });
  #frame = null;
  #time = null; // the format of times
  #topics = new Map(); // topic -> subscription

  constructor(element) {
    const { dataset } = element;
    this.element = element;
    this.grid = element.querySelector("[data-board]");
    this.clock = element.querySelector("[data-board-clock]");
    this.words = element.querySelector("[data-board-words]");
    this.tilesUrl = dataset.tilesUrl;
    this.since = dataset.since;
    this.live = dataset.liveRange === "1";
    this.paused = false;
    this.settings = {
      historyUrl: dataset.historyUrl,
      range: dataset.range,
      zone: dataset.zone,
      redraw: () => this.redraw(),
    };
    this.#present = Number(dataset.presentSlot);
    this.#since = performance.now();
  }

  #present;
  #since;

  /** The present slot by the clock of the server, counted on by the clock of this page. */
  get presentSlot() {
    return Math.floor(this.#present + (performance.now() - this.#since) / 1000 / SLOT_SECONDS);
  }

  start() {
    this.elements().forEach((element) => this.bind(element));
    if (this.live) this.#follow();
    this.#showAges();
    setInterval(() => this.#showAges(), 1_000);
    setInterval(() => this.#retry(), RETRY_MS);
    document.addEventListener("visibilitychange", () => this.redraw());
    this.#retry(["pending"]);
  }

  elements() {
    return [...this.grid.querySelectorAll("[data-tile]")];
  }

  find(id) {
    return this.grid.querySelector(`[data-tile="${CSS.escape(id)}"]`);
  }

  /** Follows what a tile shows, once it is on the page. */
  bind(element) {
    const id = element.dataset.tile;
    this.#tiles.delete(id);
    if (element.querySelector("[data-metric-body]")) this.#tiles.set(id, new MetricTile(element, this.settings));
    if (this.live) element.dataset.topics.split(" ").filter(Boolean).forEach((topic) => this.#followTopic(topic));
  }

  unbind(id) {
    this.#tiles.delete(id);
  }

  /** Loads tiles again that somebody waits for: of another size, or after a pause. */
  reload(ids) {
    ids.forEach((id) => this.#asked.add(id));
  }

  /** Loads tiles again whose data changed. */
  #reloadSoon(ids) {
    ids.forEach((id) => this.#dirty.add(id));
  }

  pause(paused) {
    this.paused = paused;
    if (!paused) {
      this.#tiles.forEach((tile) => tile.catchUp());
      this.reload(this.elements().filter((one) => !this.#tiles.has(one.dataset.tile)).map((one) => one.dataset.tile));
    }
    this.#showAges();
  }

  // -- frames -----------------------------------------------------------------------------------------------------

  #follow() {
    live().subscribe(["dashboard"], { onEphemeral: (frame) => this.#onFrame(frame), onDenied: () => {} });
  }

  #onFrame(frame) {
    if (this.paused) return;
    for (const sample of samplesIn(frame)) {
      if (sample.slot > this.presentSlot) [this.#present, this.#since] = [sample.slot, performance.now()];
      this.#tiles.forEach((tile) => tile.take(sample));
    }
    const changed = new Set(widgetsIn(frame));
    if ((frame.data.updates ?? [frame]).some(({ event }) => event === UPDATED)) changed.add("figures");
    if (changed.size) this.#reloadSoon(this.#ids((one) => changed.has(one.dataset.kind)));
    this.redraw();
  }

  #followTopic(topic) {
    if (this.#topics.has(topic)) return;
    const subscription = live().subscribe([topic], {
      since: this.since,
      onEvent: () => this.paused || this.#reloadSoon(this.#ids((one) => one.dataset.topics.split(" ").includes(topic))),
      onReset: (frame) => {
        if (frame.reason !== "forbidden") subscription.restart({ epoch: frame.epoch, position: frame.position });
      },
      onDenied: () => {},
    });
    this.#topics.set(topic, subscription);
  }

  #ids(matches) {
    return this.elements().filter(matches).map((one) => one.dataset.tile);
  }

  /** Draws at the next frame of the screen, and nothing while the page is hidden. */
  redraw() {
    if (this.#frame !== null || document.hidden) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = null;
      this.#tiles.forEach((tile) => tile.draw());
      this.#showAges();
    });
  }

  #showAges() {
    const present = this.presentSlot;
    if (this.live && !this.paused) this.#tiles.forEach((tile) => tile.showAge(present));
    const newest = Math.max(0, ...[...this.#tiles.values()].map((tile) => tile.slot ?? 0));
    const age = (present - newest) * SLOT_SECONDS;
    if (!this.live || !newest) return;
    const format = { timeStyle: "medium", hourCycle: "h23", timeZone: this.settings.zone };
    this.#time ??= new Intl.DateTimeFormat(LANGUAGE, format);
    const at = this.#time.format(new Date(newest * SLOT_SECONDS * 1000));
    const silent = age > 30;
    this.clock.dataset.state = silent ? "stale" : this.paused ? "still" : "live";
    const words = silent ? _("no values since %(time)s", { time: at }) : _("as of %(time)s", { time: at });
    this.words.textContent = this.paused ? _("paused at %(time)s", { time: at }) : words;
  }

  // -- single tiles -----------------------------------------------------------------------------------------------

  #retry(states = ["pending", "failed", "stale"]) {
    if (document.hidden || this.paused) return;
    this.reload(this.#ids((one) => states.includes(one.dataset.state)));
  }

  async #refresh(ids) {
    const address = `${this.tilesUrl}?${this.settings.range}&ids=${ids.join(",")}`;
    const { page } = await fetchDocument(address, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    for (const fresh of page.querySelectorAll("[data-tile]")) {
      const old = this.find(fresh.dataset.tile);
      if (old) this.#replace(old, fresh);
    }
  }

  /** Replaces the content of a tile; its place, its tools and the focus stay. */
  #replace(old, fresh) {
    const [body, now] = [old, fresh].map((one) => one.querySelector("[data-tile-body]"));
    const focused = [...body.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
    old.classList.remove(`widget-${old.dataset.state}`);
    old.classList.add(`widget-${fresh.dataset.state}`);
    old.dataset.state = fresh.dataset.state;
    old.dataset.topics = fresh.dataset.topics;
    old.querySelector("[data-tile-name]").textContent = fresh.querySelector("[data-tile-name]").textContent;
    old.querySelector("[data-tile-age]").textContent = fresh.querySelector("[data-tile-age]").textContent;
    body.replaceChildren(...now.childNodes);
    if (focused >= 0) body.querySelectorAll(FOCUSABLE)[focused]?.focus({ preventScroll: true });
    this.bind(old);
  }
}
