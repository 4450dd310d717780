import { fetchDocument } from "./live.js";
import { _ } from "./words.js";

const MAX_INTERVAL_MS = 30_000;
const TIMEOUT_MS = 10_000;

/** Numbers that poll: replaces the parts that changed and, where the page has room for it, shows how fresh they are. */
export function open(element) {
  new PollingPage(element).start();
}

class PollingPage {
  #failures = 0;
  #timer = null;

  constructor(element) {
    this.element = element;
    this.every = Number(element.dataset.every);
    this.body = element.querySelector("[data-poll-body]");
    this.status = element.querySelector("[data-poll-status]");
    this.words = element.querySelector("[data-poll-words]");
    this.fresh = this.words?.dataset.pollWords; // the time as the server formats it
  }

  start() {
    partsOf(this.body); // remember the HTML of the server
    const refresh = () => {
      if (!this.body.querySelector("[data-poll-end]")) this.#poll();
    };
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#pause() : refresh()));
    document.addEventListener("replaced", refresh); // a form of this page was sent
    this.#later(this.every);
  }

  #pause() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  #later(wait) {
    this.#pause();
    if (!document.hidden) this.#timer = setTimeout(() => this.#poll(), wait);
  }

  async #poll() {
    this.#pause();
    if (!this.element.isConnected) return; // replaced by the answer to a form
    try {
      const { page, headers } = await fetchDocument(this.#address(), { signal: AbortSignal.timeout(TIMEOUT_MS) });
      this.#draw(page.body);
      this.#failures = 0;
      this.fresh = headers.get("X-As-Of");
    } catch {
      this.#failures += 1;
    }
    this.#showFreshness();
    if (!this.body.querySelector("[data-poll-end]")) {
      this.#later(Math.min(this.every * 2 ** this.#failures, MAX_INTERVAL_MS));
    }
  }

  /** The address of the fragment; one of the same page keeps the page's query. */
  #address() {
    const address = new URL(this.element.dataset.poll, location);
    if (address.pathname === location.pathname) {
      const query = new URLSearchParams(location.search);
      query.set("fragment", "1");
      address.search = query;
    }
    return `${address.pathname}${address.search}`;
  }

  #showFreshness() {
    if (!this.status) return;
    const time = this.fresh;
    this.status.dataset.state = this.#failures ? "stale" : "live";
    this.words.textContent = this.#failures
      ? _("stale: no response since %(time)s", { time })
      : _("as of %(time)s", { time });
  }

  /** Replaces the named parts that differ; where the set of parts changed, replaces everything. */
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

/** name -> part; `source` is its HTML as sent by the server, before scripts of the page changed it. */
function partsOf(root) {
  const parts = new Map();
  for (const part of root.querySelectorAll("[data-part]")) {
    part.source ??= part.outerHTML;
    parts.set(part.dataset.part, part);
  }
  return parts;
}
