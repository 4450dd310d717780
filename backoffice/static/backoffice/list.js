import { Batches } from "./batches.js";
import { Desk } from "./desk.js";
import { fetchDocument, flash, live } from "./live.js";
import { ASK, MOST, News, arrives } from "./news.js";
import { say } from "./toasts.js";
import { _, ngettext } from "./words.js";

const PATIENCE_MS = 30_000;

/** A list that keeps itself true: changed rows in place, new ones behind a button, nothing moves under the cursor. */
export function open(element) {
  new LiveList(element).start();
}

class LiveList {
  #changed = new Batches((ids) => this.#refresh(ids), 120, { limit: ASK });
  #redraws = new Batches((reasons) => this.#reload(reasons), 120, { gaveUp: () => location.reload() });
  #news = new News((ids) => this.#matching(ids), () => this.#tell());
  #last = Promise.resolve();

  constructor(element) {
    this.element = element;
    this.body = element.querySelector("[data-list-body]");
    this.banner = element.querySelector("[data-news]");
    this.button = element.querySelector("[data-news-show]");
    this.desk = element.dataset.desk ? new Desk(element) : null;
  }

  start() {
    this.desk?.start();
    this.button.addEventListener("click", () => this.#show());
    this.subscription = live().subscribe([this.element.dataset.topic], {
      since: this.element.dataset.since,
      onEvent: (event) => this.#take(event),
      // Too far behind, or history was rewound: what is shown is read again, then followed from there.
      onReset: (frame) => frame.reason !== "forbidden" && this.#redraws.add("reset"),
      onDenied: () => {},
    });
  }

  #take(event) {
    const id = keyOf(event.stream);
    const row = this.#row(id);
    if (event.event.endsWith(".erased")) {
      row?.remove();
      this.#redraws.add("erased"); // all of it: nothing of an erased person stays on the page, hidden or not
    } else if (row) {
      if (Number(row.dataset.version) < event.version || event.version === 1) this.#changed.add(id);
    } else if (arrives(event) || this.#news.has(id)) {
      this.#news.add(id);
    }
  }

  #row(id) {
    return this.body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
  }

  /** One request of this list at a time, so that no older answer is drawn over a newer one. */
  #fetch(address, draw) {
    const ask = () => fetchDocument(address, { signal: AbortSignal.timeout(PATIENCE_MS) });
    const drawn = this.#last.then(ask).then(draw);
    this.#last = drawn.catch(() => {});
    return drawn;
  }

  #refresh(ids) {
    return this.#fetch(this.#address({ ids: ids.join(",") }), ({ page }) => this.#swapAll(ids, page));
  }

  #swapAll(ids, page) {
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

  /** Which of these would be in this list, by its own filters, and are not. */
  #matching(ids) {
    const found = ({ headers }) => (headers.get("X-New") ?? "").split(" ").filter((id) => id && !this.#row(id));
    return this.#fetch(this.#address({ new: ids.join(",") }), found);
  }

  #tell() {
    const n = this.#news.size;
    this.banner.hidden = !n && !this.#news.isUnsure;
    if (this.banner.hidden) return;
    if (this.#news.isUnsure) this.button.textContent = _("Many new records: show");
    else if (this.#news.isFull) this.button.textContent = _("%(n)s+ new: show", { n: MOST });
    else this.button.textContent = ngettext("%(n)s new: show", "%(n)s new: show", n);
    say(this.#news.isUnsure ? _("Many new records") : ngettext("%(n)s new record", "%(n)s new records", n));
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
    try {
      await this.#redraw(`${location.pathname}?${query}`, this.#news.ids());
    } catch {
      location.search = query; // the browser tells what is wrong
      return;
    }
    this.body.querySelector("tbody a")?.focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  }

  /** The list anew from the server, without leaving the page. Returns where the log stood then. */
  async #redraw(address, lit = []) {
    await this.#last;
    const shown = this.#news.mark();
    return this.#fetch(address, ({ page }) => this.#draw(page, lit, shown));
  }

  #draw(page, lit, shown) {
    const fresh = page.querySelector("[data-list-body]");
    if (!fresh) throw new Error("no list");
    this.body.replaceChildren(...fresh.childNodes);
    const count = page.querySelector("[data-count]");
    if (count) this.element.querySelector("[data-count]").replaceChildren(...count.childNodes);
    this.desk?.draw();
    if (this.element.dataset.first === "1") shown();
    for (const id of lit) {
      const row = this.#row(id);
      if (row) flash(row);
    }
    return page.querySelector("[data-list]").dataset.since;
  }

  async #reload(reasons) {
    const since = await this.#redraw(location.href);
    if (reasons.includes("reset")) this.subscription.restart(since);
  }
}

export function keyOf(stream) {
  return stream.slice(stream.indexOf("-") + 1);
}
