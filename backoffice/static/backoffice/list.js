import { DebouncedSet } from "./debounced_set.js";
import { ListPresence } from "./list_presence.js";
import { fetchDocument, flash, live, whilePolling } from "./live.js";
import { IDS_PER_REQUEST, MAX_SHOWN, NewRecords, arrives } from "./new_records.js";
import { announce } from "./toasts.js";
import { _, ngettext } from "./words.js";

const TIMEOUT_MS = 30_000;

/** A live list: changed rows are updated in place; new ones are announced by a button, so that no row moves. */
export function open(element) {
  new LiveList(element).start();
}

class LiveList {
  #changed = new DebouncedSet((ids) => this.#refresh(ids), 120, { limit: IDS_PER_REQUEST });
  #redraws = new DebouncedSet((reasons) => this.#reload(reasons));
  #erasures = new DebouncedSet((reasons) => this.#reload(reasons), 120, { gaveUp: () => location.reload() });
  #newRecords = new NewRecords((ids) => this.#matching(ids), () => this.#updateBanner());
  #last = Promise.resolve();

  constructor(element) {
    this.element = element;
    this.body = element.querySelector("[data-list-body]");
    this.banner = element.querySelector("[data-news]");
    this.button = element.querySelector("[data-news-show]");
    this.presence = element.dataset.listPresence ? new ListPresence(element) : null;
  }

  start() {
    this.presence?.start();
    this.button.addEventListener("click", () => this.#show());
    whilePolling(() => this.#redraws.add("poll"));
    this.subscription = live().subscribe([this.element.dataset.topic], {
      since: this.element.dataset.since,
      onEvent: (event) => this.#onEvent(event),
      // Too far behind, or the log was restored: reload the list and continue from its position.
      onReset: (frame) => frame.reason !== "forbidden" && this.#redraws.add("reset"),
      onDenied: () => {},
    });
  }

  #onEvent(event) {
    const id = keyOf(event.stream);
    const row = this.#row(id);
    if (event.event.endsWith(".erased")) {
      row?.remove();
      this.#erasures.add("erased"); // the whole list: no data of an erased person may stay on the page, hidden or not
    } else if (row) {
      if (Number(row.dataset.version) < event.version || event.version === 1) this.#changed.add(id);
    } else if (arrives(event) || this.#newRecords.has(id)) {
      this.#newRecords.add(id);
    }
  }

  #row(id) {
    return this.body.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
  }

  /** Runs the requests of this list one at a time, so that an older response never replaces a newer one. */
  #fetch(address, draw) {
    const ask = () => fetchDocument(address, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    const drawn = this.#last.then(ask).then(draw);
    this.#last = drawn.catch(() => {});
    return drawn;
  }

  #refresh(ids) {
    return this.#fetch(this.#address({ ids: ids.join(",") }), ({ page }) => this.#replaceRows(ids, page));
  }

  #replaceRows(ids, page) {
    let names = [];
    for (const id of ids) {
      const row = this.#row(id);
      const fresh = page.querySelector(`tr[data-id="${CSS.escape(id)}"]`);
      if (!row) continue;
      if (fresh) this.#replaceRow(row, fresh);
      else row.classList.add("gone");
      names.push((fresh ?? row).querySelector(".name")?.textContent.trim());
    }
    this.presence?.draw();
    names = names.filter(Boolean);
    if (names.length) announce(ngettext("%(names)s changed", "%(n)s records changed", names.length, { names: names[0] }));
  }

  /** Replaces a row in place, keeping focus, marker and position. */
  #replaceRow(row, fresh) {
    const focused = row.contains(document.activeElement);
    if (row.classList.contains("at")) fresh.classList.add("at");
    row.replaceWith(fresh);
    if (focused) fresh.querySelector("a")?.focus({ preventScroll: true });
    flash(fresh);
  }

  /** Returns those of the ids that match the filters of this list and are not shown. */
  #matching(ids) {
    const found = ({ headers }) => (headers.get("X-New") ?? "").split(" ").filter((id) => id && !this.#row(id));
    return this.#fetch(this.#address({ new: ids.join(",") }), found);
  }

  #updateBanner() {
    const n = this.#newRecords.size;
    this.banner.hidden = !n && !this.#newRecords.isUnsure;
    if (this.banner.hidden) return;
    if (this.#newRecords.isUnsure) this.button.textContent = _("Many new records: show");
    else if (this.#newRecords.isFull) this.button.textContent = _("%(n)s+ new: show", { n: MAX_SHOWN });
    else this.button.textContent = ngettext("%(n)s new: show", "%(n)s new: show", n);
    announce(this.#newRecords.isUnsure ? _("Many new records") : ngettext("%(n)s new record", "%(n)s new records", n));
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
      await this.#redraw(`${location.pathname}?${query}`, this.#newRecords.ids());
    } catch {
      location.search = query; // the browser shows the error
      return;
    }
    this.body.querySelector("tbody a")?.focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  }

  /** Reloads the list without leaving the page; returns the log position it was read at. */
  async #redraw(address, highlighted = []) {
    await this.#last;
    const shown = this.#newRecords.mark();
    return this.#fetch(address, ({ page }) => this.#draw(page, highlighted, shown));
  }

  #draw(page, highlighted, shown) {
    const fresh = page.querySelector("[data-list-body]");
    if (!fresh) throw new Error("no list");
    this.body.replaceChildren(...fresh.childNodes);
    const count = page.querySelector("[data-count]");
    if (count) this.element.querySelector("[data-count]").replaceChildren(...count.childNodes);
    this.presence?.draw();
    if (this.element.dataset.first === "1") shown();
    for (const id of highlighted) {
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
