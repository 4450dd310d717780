import { DebouncedSet } from "./debounced_set.js";
import { fetchDocument, flash, live } from "./live.js";
import { ngettext } from "./words.js";

const DEBOUNCE_MS = 1500;

/** The filters of the event browser, by `data-` attribute: whether a new event matches. */
const MATCHES = {
  stream: (event, stream) => event.stream === stream,
  type: (event, type) => (type.endsWith(".*") ? event.event.startsWith(type.slice(0, -1)) : event.event === type),
  actor: (event, actor) => event.actor === actor,
  correlation: (event, id) => event.correlation_id === id,
  until: (event, moment) => Date.parse(event.timestamp) < Date.parse(moment),
};

/** Live activity: the overview refreshes itself, the event browser and a history show the number of new events. */
export function open(element) {
  const feed = new Feed(element);
  feed.start();
}

class Feed {
  #new = 0;
  #redraws = new DebouncedSet(() => this.#redraw(), DEBOUNCE_MS);
  // Once: the page reloads, and the next one no longer has erased data.
  #reloads = new DebouncedSet(() => new Promise(() => location.reload()));

  constructor(element) {
    this.element = element;
    this.gentle = "gentle" in element.dataset;
    this.news = element.querySelector("[data-news]");
    this.button = element.querySelector("[data-news-show]");
    const { topic, topics } = element.dataset;
    this.topics = topic ? [topic] : (topics ?? "users forms submissions settings").split(" ").filter(Boolean);
    this.wanted = Object.entries(MATCHES).filter(([name]) => element.dataset[name]);
  }

  start() {
    this.button?.addEventListener("click", () => location.assign(this.#first()));
    if (this.element.dataset.first === "0") return;
    for (const topic of this.topics) {
      const subscription = live().subscribe([topic], {
        since: this.element.dataset.since,
        onEvent: (event) => this.#onEvent(event),
        onReset: async (frame) => {
          if (frame.reason !== "forbidden") subscription.restart({ epoch: frame.epoch, position: frame.position });
          this.#redraws.add("all");
        },
        onDenied: () => {},
      });
    }
  }

  #onEvent(event) {
    if (event.event.endsWith(".erased")) {
      this.#reloads.add("erased");
      return;
    }
    if (this.element.dataset.history && event.stream !== this.element.dataset.history) return;
    if (!this.wanted.every(([name, matches]) => matches(event, this.element.dataset[name]))) return;
    if (this.gentle) {
      this.#redraws.add("all");
      return;
    }
    this.#new += 1;
    this.button.textContent = ngettext("%(n)s new: show", "%(n)s new: show", this.#new);
    this.news.hidden = false;
  }

  #first() {
    const query = new URLSearchParams(location.search);
    query.delete("before");
    return `${location.pathname}?${query}`;
  }

  async #redraw() {
    if (!this.gentle) return;
    const { page } = await fetchDocument(location.href);
    const body = this.element.querySelector("[data-list-body]");
    const known = new Set([...body.querySelectorAll("[data-id]")].map((item) => item.dataset.id));
    const focused = document.activeElement?.closest("[data-id]")?.dataset.id;
    body.replaceChildren(...page.querySelector("[data-list-body]").childNodes);
    for (const item of body.querySelectorAll("[data-id]")) {
      if (!known.has(item.dataset.id)) flash(item);
      if (item.dataset.id === focused) item.querySelector("a")?.focus({ preventScroll: true });
    }
  }
}
