import { Batches } from "./batches.js";
import { Desk } from "./desk.js";
import { fetchDocument, flash, live } from "./live.js";
import { say } from "./toasts.js";
import { _, ngettext } from "./words.js";

const MAX_NEW = 200;

/** A list that keeps itself true: changed rows in place, new ones behind a button, nothing moves under the cursor. */
export function open(element) {
  new LiveList(element).start();
}

class LiveList {
  #changed = new Batches((ids) => this.#refresh(ids));
  #arrived = new Batches((ids) => this.#count(ids), 300);
  #new = new Set();

  constructor(element) {
    this.element = element;
    this.body = element.querySelector("[data-list-body]");
    this.news = element.querySelector("[data-news]");
    this.button = element.querySelector("[data-news-show]");
    this.desk = element.dataset.desk ? new Desk(element) : null;
  }

  start() {
    this.desk?.start();
    this.button.addEventListener("click", () => this.#show());
    this.subscription = live().subscribe([this.element.dataset.topic], {
      since: this.element.dataset.since,
      onEvent: (event) => this.#take(event),
      onReset: (frame) => this.#reload(frame),
      onDenied: () => {},
    });
  }

  #take(event) {
    if (event.event.endsWith(".erased")) {
      this.#redraw(location.href); // all of it: nothing of an erased person stays on the page, hidden or not
      return;
    }
    const id = keyOf(event.stream);
    const row = this.#row(id);
    if (row) {
      if (Number(row.dataset.version) < event.version || event.version === 1) this.#changed.add(id);
    } else if (/\.(created|received|changed|restored|filed|reopened)$/.test(event.event)) {
      this.#arrived.add(id);
    }
  }

  #row(id) {
    return this.body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
  }

  async #refresh(ids) {
    const { page } = await fetchDocument(this.#address({ ids: ids.join(",") }));
    let names = [];
    for (const id of ids) {
      const row = this.#row(id);
      const fresh = page.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
      if (!row) continue;
      if (fresh) this.#swap(row, fresh);
      else row.classList.add("gone");
      names.push((fresh ?? row).querySelector(".name")?.textContent.trim());
    }
    this.desk?.draw();
    names = names.filter(Boolean);
    if (names.length) say(ngettext("%(names)s changed", "%(n)s records changed", names.length, { names: names[0] }));
  }

  /** In place: the focus, the mark and the row's place stay. */
  #swap(row, fresh) {
    const focused = row.contains(document.activeElement);
    if (row.classList.contains("at")) fresh.classList.add("at");
    row.replaceWith(fresh);
    if (focused) fresh.querySelector("a")?.focus({ preventScroll: true });
    flash(fresh);
  }

  /** Which of the new ones would be in this list, by its own filters. */
  async #count(ids) {
    const { headers } = await fetchDocument(this.#address({ new: ids.slice(0, MAX_NEW).join(",") }));
    for (const id of (headers.get("X-New") ?? "").split(" ")) if (id && !this.#row(id)) this.#new.add(id);
    if (!this.#new.size) return;
    const n = this.#new.size;
    this.button.textContent = n >= MAX_NEW ? _("%(n)s+ new: show", { n }) : ngettext("%(n)s new: show", "%(n)s new: show", n);
    this.news.hidden = false;
    say(ngettext("%(n)s new record", "%(n)s new records", n));
  }

  #address(more) {
    const query = new URLSearchParams(location.search);
    for (const name of ["cursor", "sort"]) query.delete(name);
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    return `${this.element.dataset.rows}?${query}`;
  }

  async #show() {
    const query = new URLSearchParams(location.search);
    query.delete("cursor");
    if (this.element.dataset.first !== "1") {
      location.search = query;
      return;
    }
    await this.#redraw(`${location.pathname}?${query}`, new Set(this.#new));
    this.body.querySelector("tbody a")?.focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  }

  /** The list anew from the server, without leaving the page. Returns where the log stood then. */
  async #redraw(address, lit = new Set()) {
    const { page } = await fetchDocument(address);
    const fresh = page.querySelector("[data-list-body]");
    if (!fresh) throw new Error("no list");
    this.body.replaceChildren(...fresh.childNodes);
    const count = page.querySelector("[data-count]");
    if (count) this.element.querySelector("[data-count]").replaceChildren(...count.childNodes);
    this.desk?.draw();
    this.#new.clear();
    this.news.hidden = true;
    for (const id of lit) {
      const row = this.#row(id);
      if (row) flash(row);
    }
    return page.querySelector("[data-list]").dataset.since;
  }

  /** Too far behind, or history was rewound: what is shown is read again, then followed from there. */
  async #reload(frame) {
    if (frame.reason === "forbidden") return;
    this.subscription.restart(await this.#redraw(location.href));
  }
}

export function keyOf(stream) {
  return stream.slice(stream.indexOf("-") + 1);
}
