import { jsonOf } from "./answers.js";
import { DebouncedSet } from "./debounced_set.js";
import { button } from "./dom.js";
import { avatars, presenceText } from "./avatars.js";
import { defaultOf, isQueued, isTouched, isUnsaved, losesNumbers, put, same, setDefault, valueOf } from "./inputs.js";
import { flash, live, whilePolling } from "./live.js";
import { merge } from "./merge.js";
import { announce } from "./toasts.js";
import { _ } from "./words.js";

const IDLE_MS = 10 * 60 * 1000;
const ANSWER_MS = 30_000;

/** An open record: changes by others appear in untouched fields; in fields you edited, you choose. */
export function open(element) {
  new LiveRecord(element).start();
}

class LiveRecord {
  #updates = new DebouncedSet(() => this.#fetch());
  #conflicting = new Map(); // field name -> the value of the others
  #mergedTo;

  constructor(element) {
    this.element = element;
    this.form = element.querySelector("[data-edit]");
    this.base = this.form?.elements.namedItem("base_version");
    this.seen = this.#mergedTo = Number(element.dataset.version);
    this.me = element.dataset.me;
    this.saving = null; // resolves when the page stays open after a save
    this.savedHere = new Set(); // versions saved by this page
    this.rules = JSON.parse(element.dataset.rules ?? "{}");
  }

  start() {
    if (this.form) this.#watchTyping();
    const { topic, since, stream } = this.element.dataset;
    const subscription = live().subscribe([topic], {
      since,
      onEvent: (event) => {
        if (event.event.endsWith(".erased")) this.#removeErased();
        else if (event.stream === stream && event.version > this.seen) this.#updates.add(event.version);
      },
      onReset: (frame) => {
        if (frame.reason === "forbidden") return;
        subscription.restart({ epoch: frame.epoch, position: frame.position });
        this.#updates.add("reset");
      },
      onDenied: () => {},
    });
    this.element.addEventListener("look", () => this.#updates.add("queue"));
    this.form?.addEventListener("saving", ({ detail }) => (this.saving = detail));
    this.element.addEventListener("saved", ({ detail }) => this.#showSaved(detail));
    whilePolling(() => this.#updates.add("poll"));
    this.#trackPresence(topic);
  }

  /** The record was erased: removes its data and all typing at once. */
  #removeErased() {
    this.form?.reset();
    location.reload();
  }

  // -- changes by others ------------------------------------------------------------------------------------------

  async #fetch() {
    const signal = AbortSignal.timeout(ANSWER_MS);
    const now = await jsonOf(await fetch(`${this.element.dataset.liveUrl}?since=${this.seen}`, { signal }));
    await this.saving; // until its answer arrives, the page cannot tell its own change from one by others
    if (now.version > this.seen && now.version >= this.#mergedTo) this.#show(now);
    this.element.dispatchEvent(new CustomEvent("looked"));
  }

  /** A save of this page was answered and the page stayed open: its text was saved as the record is now. */
  #showSaved(now) {
    this.savedHere.add(now.version);
    this.#applyUpdate({ ...now, changes: [] });
  }

  #show(now) {
    this.seen = now.version;
    this.#applyUpdate(now);
    this.element.querySelector("[data-aside]").innerHTML = now.aside;
    for (const place of document.querySelectorAll("[data-name]")) place.textContent = now.name;
    this.#showUpdateBar(now);
  }

  #applyUpdate(now) {
    for (const [name, theirs] of Object.entries(now.values)) {
      const field = this.#field(name);
      if (!field || same(field, theirs)) {
        if (field) this.#accept(field, theirs);
        continue;
      }
      if (isTouched(field)) this.#mergeField(field, theirs) || this.#showConflict(field, theirs, now);
      else if (!same(field, theirs)) {
        put(field, theirs);
        this.#accept(field, theirs);
        flash(field.closest(".field"));
      }
    }
    if (!this.#conflicting.size) this.#moveBase(now.version);
  }

  /** Makes the current version the base: the form contains every change of the others. */
  #moveBase(version) {
    if (this.base) this.base.value = version;
    this.#mergedTo = version;
  }

  #accept(field, value) {
    setDefault(field, value);
    this.#conflicting.delete(field.name);
    const note = field.closest(".field").querySelector("[data-theirs]");
    if (note) note.hidden = true;
    field.closest(".field").classList.remove("clashing");
    this.#markTouched(field);
  }

  /** Merges a field as the server will: questions one by one, long texts by line. Returns false if that needs a
   *  decision. */
  #mergeField(field, theirs) {
    const { policies = {}, checks } = this.rules;
    const sides = [defaultOf(field), String(theirs ?? ""), valueOf(field)];
    const json = field.dataset.kind === "json";
    if (!(field.name in policies) || isQueued(field) || sides[0] === sides[1]) return false;
    if (json && sides.some(losesNumbers)) return false;
    try {
      const records = sides.map((text) => ({ [field.name]: json ? JSON.parse(text) : text }));
      const { conflicts, values } = merge(...records, policies, { checks });
      if (conflicts.length) return false;
      const merged = values[field.name];
      put(field, json ? JSON.stringify(merged, null, 2) : merged);
    } catch {
      return false; // half-typed JSON
    }
    this.#accept(field, theirs);
    flash(field.closest(".field"));
    return true;
  }

  /** Offers both values where both sides changed the field since the version of this page. */
  #showConflict(field, theirs, now) {
    if (String(theirs) === String(defaultOf(field)) || same(field, theirs)) return;
    this.#conflicting.set(field.name, theirs);
    const box = field.closest(".field");
    const note = box.querySelector("[data-theirs]");
    const who = now.changes.findLast((change) => field.name in change.fields)?.who ?? _("Someone else");
    const text = document.createElement("span");
    text.textContent = _("%(who)s changed this too: %(value)s", { who, value: shown(field, theirs) });
    note.replaceChildren(
      text,
      button(_("Take theirs"), () => {
        put(field, theirs);
        this.#decided(field, theirs);
      }),
      button(_("Keep mine"), () => this.#decided(field, theirs)),
    );
    note.hidden = false;
    box.classList.add("clashing");
  }

  /** Shows the value of the others where the conflicting edit left the queue for the conflict inbox. */
  #showTheirs() {
    for (const [name, theirs] of this.#conflicting) {
      const field = this.#field(name);
      if (isTouched(field)) continue;
      put(field, theirs);
      this.#accept(field, theirs);
      if (!this.#conflicting.size) this.#moveBase(this.seen);
    }
  }

  #decided(field, theirs) {
    this.#accept(field, theirs);
    if (!this.#conflicting.size) this.#moveBase(this.seen);
    field.focus();
  }

  #showUpdateBar(now) {
    const changes = now.changes.filter((change) => !this.savedHere.has(change.version));
    const others = changes.filter((change) => change.actor !== this.me || this.form);
    if (!others.length) return;
    const bar = this.element.querySelector("[data-meanwhile]");
    const last = others.at(-1);
    const what = Object.values(last.fields).join(", ");
    const mine = last.actor === this.me;
    const words = now.deleted
      ? _("%(who)s deleted this record.", { who: last.who })
      : mine
        ? this.#ownUpdateText(what)
        : _("%(who)s changed %(what)s.", { who: last.who, what });
    const text = document.createElement("span");
    text.textContent = last.reason ? `${words} ${_("“%(text)s”", { text: last.reason })}` : words;
    bar.replaceChildren(text, button(_("Close"), () => (bar.hidden = true)));
    bar.classList.toggle("warning", now.deleted || this.#conflicting.size > 0);
    bar.hidden = false;
    announce(words);
    if (now.deleted || !this.form) bar.append(button(_("Show current state"), () => location.reload()));
  }

  #ownUpdateText(what) {
    const wasQueued = this.form && [...this.form.elements].some(isQueued);
    return wasQueued
      ? _("Your waiting edits were saved: %(what)s.", { what })
      : _("You saved this in another window: %(what)s.", { what });
  }

  // -- own typing -------------------------------------------------------------------------------------------

  #watchTyping() {
    const fields = [...this.form.elements].filter((field) => field.closest("[data-field]"));
    this.form.addEventListener("input", (event) => this.#markTouched(event.target));
    this.form.addEventListener("change", (event) => this.#markTouched(event.target));
    let saving = false;
    this.form.addEventListener("submit", () => (saving = true));
    this.form.addEventListener("stayed", () => (saving = false)); // queued: the page stays open
    this.form.addEventListener("queued", () => {
      this.#showTheirs();
      fields.forEach((field) => this.#markTouched(field));
    });
    window.addEventListener("pageshow", () => {
      saving = false;
      fields.forEach((field) => this.#markTouched(field)); // the browser may have restored typed values
    });
    window.addEventListener("beforeunload", (event) => {
      if (!saving && this.#touched()) event.preventDefault();
    });
  }

  #touched() {
    return [...this.form.elements].some((field) => field.closest("[data-field]") && isUnsaved(field));
  }

  #markTouched(field) {
    field.closest?.("[data-field]")?.classList.toggle("touched", isUnsaved(field));
    const sign = this.form?.querySelector("[data-unsaved]");
    if (sign) sign.hidden = !this.#touched();
  }

  #field(name) {
    const found = this.form?.elements.namedItem(name);
    return found instanceof Element ? found : null;
  }

  // -- presence --------------------------------------------------------------------------------------------------

  #trackPresence(topic) {
    const presence = live().presence(topic);
    const { listPresence, stream } = this.element.dataset;
    const key = stream.slice(stream.indexOf("-") + 1);
    const set = (state, field = null) => {
      presence.set(state, field);
      if (listPresence) live().presence(listPresence).set(state, key); // shown in the list, at the row
    };
    let idle = null;
    const publish = (field = null) => {
      clearTimeout(idle);
      const editing = field !== null || (this.form !== null && this.#touched());
      set(editing ? "editing" : "viewing", field);
      idle = setTimeout(() => set("idle"), IDLE_MS);
    };
    publish();
    window.addEventListener("pagehide", () => set("gone"), { capture: true }); // before the connection ends
    const fieldOf = (target) => target.closest("[data-field]")?.dataset.field ?? null;
    this.form?.addEventListener("focusin", (event) => publish(fieldOf(event.target)));
    this.form?.addEventListener("focusout", () => publish());
    presence.onChange((people) => this.#showPeople(people.filter((person) => `staff:${person.id}` !== this.me)));
  }

  #showPeople(people) {
    const place = this.element.querySelector("[data-here]");
    place.hidden = !people.length;
    place.replaceChildren(avatars(people), document.createTextNode(presenceText(people)));
    for (const old of this.element.querySelectorAll(".who-types")) old.remove();
    for (const person of people.filter((one) => one.state === "editing" && one.field)) {
      const label = this.#field(person.field)?.closest(".field")?.querySelector("label");
      if (!label) continue;
      const sign = document.createElement("span");
      sign.className = "who-types";
      sign.textContent = person.name;
      label.append(sign);
    }
  }
}

function shown(field, value) {
  if (field.type === "checkbox") return value ? _("yes") : _("no");
  if (field instanceof HTMLSelectElement) {
    return [...field.options].find((option) => option.value === String(value))?.textContent ?? String(value);
  }
  const text = String(value ?? "");
  return text.length > 120 ? `${text.slice(0, 120)}…` : text || _("empty");
}
