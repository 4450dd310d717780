import { fetchDocument } from "./live.js";
import { _ } from "./words.js";

const SLOWEST_MS = 30_000;
const PATIENCE_MS = 10_000; // what has not answered by then is not fresh any more

/** A page of numbers that draws itself anew: only the parts that changed, and it says how fresh they are. */
export function open(element) {
  new Poll(element).start();
}

class Poll {
  #failures = 0;
  #timer = null;

  constructor(element) {
    this.element = element;
    this.every = Number(element.dataset.every);
    this.body = element.querySelector("[data-poll-body]");
    this.says = element.querySelector("[data-poll-says]");
    this.words = element.querySelector("[data-poll-words]");
    this.fresh = this.words.dataset.pollWords; // the server's words for its own time
  }

  start() {
    partsOf(this.body); // as the server wrote them
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : this.#look()));
    this.#later(this.every);
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #later(wait) {
    this.#pause();
    if (!document.hidden) this.#timer = setTimeout(() => this.#look(), wait);
  }

  async #look() {
    this.#pause();
    try {
      const { page, headers } = await fetchDocument(this.#address(), { signal: AbortSignal.timeout(PATIENCE_MS) });
      this.#draw(page.body);
      this.#failures = 0;
      this.fresh = headers.get("X-As-Of");
    } catch {
      this.#failures += 1;
    }
    this.#say();
    this.#later(Math.min(this.every * 2 ** this.#failures, SLOWEST_MS));
  }

  #address() {
    const query = new URLSearchParams(location.search);
    query.set("fragment", "1");
    return `${location.pathname}?${query}`;
  }

  #say() {
    const time = this.fresh;
    this.says.dataset.state = this.#failures ? "stale" : "live";
    this.words.textContent = this.#failures
      ? _("not fresh: no answer since %(time)s", { time })
      : _("as of %(time)s", { time });
  }

  /** Parts have names: those that differ are put in place of the old ones; other parts than before, and all is. */
  #draw(fresh) {
    const [old, now] = [partsOf(this.body), partsOf(fresh)];
    const focused = document.activeElement?.closest("[data-part]")?.dataset.part;
    const place = [...document.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
    const chosen = [...this.body.querySelectorAll("input:checked")].map((input) => input.value);
    if ([...old.keys()].join("\n") !== [...now.keys()].join("\n")) {
      this.body.replaceChildren(...fresh.childNodes);
    } else {
      for (const [name, part] of now) if (part.source !== old.get(name).source) old.get(name).replaceWith(part);
    }
    for (const input of this.body.querySelectorAll("input[type=checkbox]")) {
      if (chosen.includes(input.value)) input.checked = true;
    }
    if (focused && document.activeElement === document.body) {
      document.querySelectorAll(FOCUSABLE)[place]?.focus({ preventScroll: true });
    }
  }
}

const FOCUSABLE = "a[href], button, input, summary, [tabindex='0']";

/** name -> the part; `source` is what the server wrote, before the page's own scripts touched it. */
function partsOf(root) {
  const parts = new Map();
  for (const part of root.querySelectorAll("[data-part]")) {
    part.source ??= part.outerHTML;
    parts.set(part.dataset.part, part);
  }
  return parts;
}
