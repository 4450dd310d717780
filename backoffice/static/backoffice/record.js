import { jsonOf } from "./answers.js";
import { DebouncedSet } from "./debounced_set.js";
import { button, make } from "./dom.js";
import { avatars, presenceText } from "./avatars.js";
import { noComposition, watchCompositions } from "./composition.js";
import { mergedValue, valueKeepingMine } from "./field_merge.js";
import { isDefault, isQueued, isSeen, isUnsaved, isWaiting, put, same } from "./inputs.js";
import { seenOf, setDefault, setQueued } from "./inputs.js";
import { flash, live, whilePolling } from "./live.js";
import { questionDifferences } from "./question_differences.js";
import { announce, toast } from "./toasts.js";
import { recordTyping } from "./typing_history.js";
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
  #undecided = new Set(); // names of fields that others changed while an own edit of them is queued
  #applied; // version of the values that the form was brought to; ahead of `seen` after a save of this page

  constructor(element) {
    this.element = element;
    this.form = element.querySelector("[data-edit]");
    this.base = this.form?.elements.namedItem("base_version");
    this.seen = this.#applied = Number(element.dataset.version);
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
    this.element.dataset.ready = "";
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
    await this.#settled();
    if (now.version > this.seen && now.version >= this.#applied) this.#show(now);
    else if (this.#undecided.size && now.version >= this.#applied) this.#applyUpdate(now);
    this.element.dispatchEvent(new CustomEvent("looked"));
  }

  /** Resolves while no save is under way, during which the page cannot tell its own change from one by others, and no
   *  composition. */
  async #settled() {
    let awaited;
    do {
      awaited = this.saving;
      await awaited;
      await noComposition();
    } while (awaited !== this.saving);
  }

  /** A save of this page was answered and the page stayed open: its text is part of the record as it is now. */
  #showSaved(now) {
    this.savedHere.add(now.saved);
    this.#applyUpdate({ ...now, changes: [] });
  }

  #show(now) {
    this.seen = now.version;
    this.element.dataset.version = now.version;
    this.wasQueued = this.form && [...this.form.elements].some(isQueued);
    this.#applyUpdate(now);
    this.element.querySelector("[data-aside]").innerHTML = now.aside;
    for (const place of document.querySelectorAll("[data-name]")) place.textContent = now.name;
    this.#showUpdateBar(now);
  }

  #applyUpdate(now) {
    this.#applied = now.version;
    for (const [name, theirs] of Object.entries(now.values)) {
      const field = this.#field(name);
      if (field) this.#applyValue(field, theirs, now);
    }
    this.#moveBase();
  }

  /** The base of local changes is the value that the author sees as saved. While a queued edit of the field waits, the
   *  server decides how it merges; then the record contains it, and typing on top of it is merged. */
  #applyValue(field, theirs, now) {
    this.#undecided.delete(field.name);
    if (same(field, theirs)) this.#accept(field, theirs);
    else if (isWaiting(field, now.version)) isDefault(field, theirs) || this.#undecided.add(field.name);
    else if (isSeen(field, theirs)) this.#accept(field, theirs);
    else {
      if (isQueued(field)) this.#baseOnSaved(field);
      const merged = isUnsaved(field) ? mergedValue(field, theirs, this.rules) : theirs;
      if (merged === undefined) this.#showConflict(field, theirs, now);
      else this.#take(field, merged, theirs);
    }
  }

  /** A queued edit was saved: from now on it is the base of what was typed since. */
  #baseOnSaved(field) {
    setDefault(field, seenOf(field));
    setQueued(field, undefined);
  }

  #take(field, merged, theirs) {
    put(field, merged);
    this.#accept(field, theirs);
    flash(field.closest(".field"));
  }

  /** Makes the current version the base once the form contains every change of the others. */
  #moveBase() {
    if (this.base && !this.#conflicting.size && !this.#undecided.size) this.base.value = this.#applied;
  }

  /** Makes a value of the server the saved one. */
  #accept(field, value) {
    if (!isWaiting(field, this.#applied)) setQueued(field, undefined);
    setDefault(field, value);
    this.#conflicting.delete(field.name);
    const note = field.closest(".field").querySelector("[data-theirs]");
    if (note) note.hidden = true;
    field.closest(".field").classList.remove("clashing");
    this.#markTouched(field);
  }

  /** Offers both values where both sides changed the field since the version of this page. */
  #showConflict(field, theirs, now) {
    const who = now.changes.findLast((change) => field.name in change.fields)?.who ?? _("Someone else");
    const isNew = !this.#conflicting.has(field.name);
    this.#conflicting.set(field.name, theirs);
    const box = field.closest(".field");
    const note = box.querySelector("[data-theirs]");
    if (isNew) {
      note.replaceChildren(
        make("div"),
        button(_("Take theirs"), () => this.#decide(field, this.#conflicting.get(field.name))),
        button(_("Keep mine"), () => {
          this.#decide(field, valueKeepingMine(field, this.#conflicting.get(field.name), this.rules));
        }),
      );
      note.hidden = false;
      box.classList.add("clashing");
      announce(_("%(who)s changed this too: %(value)s", { who, value: labelOf(box) }));
    }
    const differences = questionDifferences(field, theirs, this.rules);
    const value = differences ? "" : shown(field, theirs);
    note.firstChild.replaceChildren(_("%(who)s changed this too: %(value)s", { who, value }), differences ?? "");
  }

  #decide(field, value) {
    if (value === undefined) {
      toast(_("These changes cannot be merged on this page. Save to decide on the conflict page."), "error");
      return;
    }
    const theirs = this.#conflicting.get(field.name);
    if (!same(field, value)) put(field, value);
    this.#accept(field, theirs);
    this.#moveBase();
    const place = field.hidden ? field.closest(".field").querySelector(".editor button") : field;
    place.focus();
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
    return this.wasQueued
      ? _("Your waiting edits were saved: %(what)s.", { what })
      : _("You saved this in another window: %(what)s.", { what });
  }

  // -- own typing -------------------------------------------------------------------------------------------

  #watchTyping() {
    const fields = [...this.form.elements].filter((field) => field.closest("[data-field]"));
    watchCompositions();
    recordTyping(this.form);
    this.form.addEventListener("input", (event) => this.#markTouched(event.target));
    this.form.addEventListener("change", (event) => this.#markTouched(event.target));
    let saving = false;
    this.form.addEventListener("submit", () => (saving = true));
    this.form.addEventListener("stayed", () => (saving = false)); // queued: the page stays open
    this.form.addEventListener("queued", () => {
      const decided = [...this.#undecided].some((name) => !isWaiting(this.#field(name), this.#applied));
      if (decided) this.#updates.add("queue");
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
    return found instanceof Element ? found : null; // a group of inputs is none
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
    const fieldOf = (target) => target.closest("[data-field]")?.dataset.field ?? null;
    publish(fieldOf(document.activeElement ?? this.element)); // it may have the focus already
    window.addEventListener("pagehide", () => set("gone"), { capture: true }); // before the connection ends
    this.form?.addEventListener("focusin", (event) => publish(fieldOf(event.target)));
    this.form?.addEventListener("focusout", () => publish());
    presence.onChange((people) => this.#showPeople(people.filter((person) => `staff:${person.id}` !== this.me)));
  }

  #showPeople(people) {
    const place = this.element.querySelector("[data-here]");
    place.hidden = !people.length;
    place.replaceChildren(avatars(people), document.createTextNode(presenceText(people)));
    const editing = people.filter((one) => one.state === "editing" && one.field);
    for (const box of this.element.querySelectorAll(".field[data-field]")) {
      this.#showEditors(box, editing.filter((one) => one.field === box.dataset.field));
    }
  }

  /** Shows who edits a field beside its label, and describes the field with it: the label stays the field's name. */
  #showEditors(box, people) {
    const text = people.map((one) => _("%(name)s is editing", { name: one.name })).join(", ");
    const sign = box.querySelector(".who-types") ?? make("span", "who-types");
    if (sign.textContent === text) return;
    sign.textContent = text;
    sign.id = `who-types-${box.dataset.field}`;
    if (text) box.append(sign);
    else sign.remove();
    const field = this.#field(box.dataset.field);
    const others = (field?.getAttribute("aria-describedby") ?? "").split(" ").filter((id) => id && id !== sign.id);
    const ids = text ? [...others, sign.id] : others;
    if (ids.length) field?.setAttribute("aria-describedby", ids.join(" "));
    else field?.removeAttribute("aria-describedby");
  }
}

function labelOf(box) {
  return box.querySelector("label").textContent.trim();
}

function shown(field, value) {
  if (field.type === "checkbox") return value ? _("yes") : _("no");
  if (field instanceof HTMLSelectElement) {
    return [...field.options].find((option) => option.value === String(value))?.textContent ?? String(value);
  }
  const text = String(value ?? "");
  return text.length > 120 ? `${text.slice(0, 120)}…` : text || _("empty");
}
