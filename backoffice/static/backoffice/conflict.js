import { isOurs } from "./answers.js";
import { DebouncedSet } from "./debounced_set.js";
import { shortcutsEnabled } from "./shortcuts.js";
import { live } from "./live.js";
import { token } from "./offline/shell.js";
import { keys, read, remove, write } from "./storage.js";
import { announce, respond } from "./toasts.js";
import { _ } from "./words.js";

const KEPT_MS = 24 * 60 * 60 * 1000;
const PREFIX = "formease:conflict:";

/** The conflict page: choices by click or key, a preview by the server, and a draft that survives closing the tab. */
export function open(element) {
  new ConflictPage(element).start();
}

class ConflictPage {
  #previews = new DebouncedSet(() => this.#preview(), 250, { pauseMs: 0, attempts: 1 });
  #latest = 0;

  constructor(element) {
    this.element = element;
    this.form = element.querySelector("[data-resolve]");
    this.key = `${PREFIX}${element.dataset.me}:${element.dataset.conflict}`;
    this.at = 0;
  }

  get places() {
    return [...this.form.querySelectorAll("[data-place]:not(:disabled)")];
  }

  get box() {
    return this.form.querySelector("[data-preview]");
  }

  start() {
    forgetOldDrafts();
    this.#showTools();
    if (this.box) {
      this.#restore();
      this.form.addEventListener("replaced", () => this.#continue());
      this.form.addEventListener("input", (event) => this.#touched(event));
      this.form.addEventListener("change", (event) => this.#touched(event));
      this.element.addEventListener("click", (event) => this.#clicked(event));
      document.addEventListener("keydown", (event) => this.#pressed(event));
      this.form.addEventListener("focusin", (event) => this.#select(event.target.closest("[data-place]")));
      this.#paint();
      if (this.places.length) this.#go(this.places.findIndex((place) => !chosen(place)) || 0, false);
    } else {
      remove(this.key); // closed: no draft to keep
    }
    this.#follow();
  }

  #showTools() {
    for (const part of this.element.querySelectorAll("[data-with-js], .region-tools")) part.hidden = false;
  }

  /** The server returned the form with messages, and with other conflicts if the record changed meanwhile. */
  #continue() {
    this.#showTools();
    this.#paint();
    if (this.box) this.#save();
    if (this.places.length) this.#go(this.at, false);
    this.element.querySelector("[data-moved]").hidden = true;
  }

  // -- choosing -----------------------------------------------------------------------------------------------------

  #touched(event) {
    const place = event.target.closest("[data-place]");
    if (place && event.target.matches("[data-typed]")) choose(place, "value");
    this.#changed();
  }

  #changed() {
    this.#paint();
    this.#save();
    this.#previews.add("now");
  }

  #clicked(event) {
    const all = event.target.closest("[data-all]");
    if (all) {
      for (const place of this.places) choose(place, all.dataset.all);
      this.#changed();
    }
    const take = event.target.closest("[data-lines-take]");
    if (take) {
      this.#takeLines(take);
      this.#changed();
    }
  }

  /** Takes a region of a long text from one side or both, and joins all regions into the whole text. */
  #takeLines(button) {
    const region = button.closest("[data-region]");
    region.dataset.taken = button.dataset.linesTake;
    const place = region.closest("[data-place]");
    const lines = [...place.querySelectorAll("[data-region]")].flatMap((each) => linesOf(each));
    place.querySelector("[data-typed]").value = lines.join("\n");
    choose(place, "value");
  }

  #paint() {
    for (const place of this.places) {
      const choice = chosen(place);
      place.dataset.chosen = choice ?? "";
      place.querySelector("[data-decided]").hidden = choice === null;
    }
    const left = this.places.filter((place) => chosen(place) === null).length;
    const words = this.element.querySelector("[data-progress]");
    const values = { done: this.places.length - left, all: this.places.length };
    if (words) words.textContent = _("%(done)s of %(all)s decided", values);
  }

  // -- keyboard -----------------------------------------------------------------------------------------------------

  #pressed(event) {
    if (event.key === "Escape" && event.target.matches("[data-typed]")) {
      event.target.closest("[data-place]").focus();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || !shortcutsEnabled() || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]") || !this.places.length) return;
    const place = this.places[this.at];
    const actions = {
      t: () => this.#choose(place, "theirs"),
      m: () => this.#choose(place, "mine"),
      e: () => this.#edit(place),
      n: () => this.#go(this.at + 1),
      p: () => this.#go(this.at - 1),
    };
    if (!(event.key in actions)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    actions[event.key]();
  }

  #choose(place, side) {
    if (choose(place, side)) this.#changed();
    respond(side === "theirs" ? _("Theirs") : _("Yours"));
  }

  #edit(place) {
    const field = place.querySelector("[data-typed]");
    if (!field || !choose(place, "value")) return;
    field.focus();
    field.select?.();
    this.#changed();
  }

  #go(to, focus = true) {
    this.#select(this.places[Math.min(Math.max(to, 0), this.places.length - 1)]);
    if (focus) this.places[this.at].focus({ preventScroll: true });
    if (focus) this.places[this.at].scrollIntoView({ block: "nearest" });
  }

  #select(place) {
    const found = this.places.indexOf(place);
    if (found < 0) return;
    this.at = found;
    for (const each of this.places) each.classList.toggle("at", each === place);
  }

  // -- preview ---------------------------------------------------------------------------------------------

  async #preview() {
    const request = ++this.#latest;
    const body = new FormData(this.form);
    body.set("csrfmiddlewaretoken", token());
    const answer = await fetch(this.element.dataset.previewUrl, { method: "POST", body });
    if (!answer.ok || !isOurs(answer) || request !== this.#latest || !this.box) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    this.box.replaceChildren(...page.body.childNodes);
  }

  // -- the draft ----------------------------------------------------------------------------------------------------

  #save() {
    const places = this.places.map((place) => ({
      path: pathOf(place),
      choice: chosen(place),
      typed: place.querySelector("[data-typed]")?.value,
    }));
    const reason = this.form.querySelector("[data-reason]").value;
    const isStored = write(this.key, JSON.stringify({ at: Date.now(), places, reason }));
    this.form.toggleAttribute("data-drafted", isStored);
  }

  #restore() {
    const draft = readDraft(this.key);
    if (!draft || "posted" in this.element.dataset) return; // the values just sent are newer
    for (const { path, choice, typed } of draft.places) {
      const place = this.places.find((each) => pathOf(each) === path);
      if (!place) continue;
      const field = place.querySelector("[data-typed]");
      if (field && typed !== undefined) field.value = typed;
      if (choice) choose(place, choice);
    }
    this.form.querySelector("[data-reason]").value = draft.reason;
    this.form.toggleAttribute("data-drafted", true);
    this.#previews.add("now");
  }

  // -- changes by others -------------------------------------------------------------------------------------

  #follow() {
    const { conflict, stream, topic, since, me } = this.element.dataset;
    live().subscribe(["conflicts"], {
      since,
      onEvent: (event) => {
        const isClosed = event.stream === `conflict-${conflict}` && /\.(resolved|dismissed)$/.test(event.event);
        if (!isClosed || !this.box) return;
        const isMine = event.actor === `staff:${me}`; // in another window, or by a request without an answer
        const words = isMine ? _("You closed this conflict.") : _("Someone else closed this conflict.");
        this.#notify(words, () => location.assign(location.pathname));
      },
      onReset: () => {},
      onDenied: () => {},
    });
    if (!this.box) return;
    live().subscribe([topic], {
      since,
      onEvent: (event) => {
        const moved = event.stream === stream && event.version > Number(this.form.elements.namedItem("version").value);
        if (!moved) return;
        const preview = () => this.form.requestSubmit(this.form.querySelector("[name=preview]")); // returns the choices
        this.#notify(_("The record changed again. Your choices are kept."), preview);
      },
      onReset: () => {},
      onDenied: () => {},
    });
  }

  #notify(text, show) {
    const bar = this.element.querySelector("[data-moved]");
    const words = document.createElement("span");
    words.textContent = text;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button small";
    button.textContent = _("Show current state");
    button.addEventListener("click", show);
    bar.replaceChildren(words, button);
    bar.hidden = false;
    announce(text);
  }
}

function pathOf(place) {
  return place.querySelector('[name^="path-"]').value;
}

function chosen(place) {
  return place.querySelector("[data-choice]:checked")?.value ?? null;
}

function choose(place, choice) {
  const radio = place.querySelector(`[data-choice][value="${choice}"]`);
  if (!radio || radio.disabled) return false;
  radio.checked = true;
  return true;
}

function linesOf(region) {
  const side = (name) => {
    const text = region.querySelector(`[data-lines="${name}"]`).textContent;
    return text === "" ? [] : text.replace(/\n$/, "").split("\n");
  };
  const kind = region.dataset.region;
  if (kind === "mine") return side("mine");
  if (kind !== "conflict") return side("theirs");
  const taken = region.dataset.taken ?? "mine";
  return taken === "both" ? [...side("theirs"), ...side("mine")] : side(taken);
}

function isTyping(element) {
  return element.isContentEditable || element.matches?.("input:not([type=checkbox], [type=radio]), textarea, select");
}

// -- drafts of all conflicts on this browser --------------------------------------------------------------------------

function readDraft(key) {
  try {
    const draft = JSON.parse(read(key) ?? "null");
    return draft && Date.now() - draft.at < KEPT_MS ? draft : null;
  } catch {
    return null;
  }
}

function forgetOldDrafts() {
  for (const key of keys()) {
    if (key.startsWith(PREFIX) && !readDraft(key)) remove(key);
  }
}
