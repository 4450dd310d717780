import { distance } from "../ago.js";
import { button, make } from "../dom.js";
import { toast } from "../toasts.js";
import { _, ngettext } from "../words.js";
import { exported, heldUp, isFree, isJson, mended, waiting } from "./edits.js";
import { shell } from "./shell.js";
import { conflictAt, verdictOf, whyNot } from "./told.js";

const LONG = 80;

/** The page of edits made without a network: what waits, what was refused, what became of the rest. */
export function open(element) {
  if ("kept" in document.documentElement.dataset && location.pathname !== element.dataset.queueUrl) {
    element.querySelector("[data-not-kept]").hidden = false;
  }
  element.querySelector("[data-retry]").addEventListener("click", () => location.reload());
  const own = shell();
  if (own) new EditsPage(element, own).start();
}

class EditsPage {
  #editing = null; // the id of the edit that is being changed

  constructor(element, own) {
    this.element = element;
    this.own = own;
  }

  async start() {
    this.own.queue.onChange(() => this.#draw());
    this.element.querySelector("[data-export]").addEventListener("click", () => this.#export());
    this.element.querySelector("[data-clear]").addEventListener("click", () => this.#clear());
    await Promise.all([this.#draw(), this.#listKept()]);
    this.element.dataset.ready = "";
  }

  async #draw() {
    if (this.#editing && this.element.querySelector("form")) return; // nobody's typing is drawn over
    const edits = await this.own.queue.all();
    const held = heldUp(edits);
    const sections = {
      refused: edits.filter((edit) => edit.state === "refused"),
      waiting: waiting(edits),
      done: edits.filter((edit) => edit.state === "done").reverse(),
    };
    for (const [name, found] of Object.entries(sections)) {
      const section = this.element.querySelector(`[data-section="${name}"]`);
      section.hidden = name !== "waiting" && !found.length;
      section.querySelector("[data-list-edits]").replaceChildren(...found.map((edit) => this.#item(edit, held)));
    }
    this.element.querySelector("[data-none]").hidden = sections.waiting.length > 0;
    this.element.querySelector("[data-export]").hidden = !(sections.waiting.length + sections.refused.length);
  }

  #item(edit, held) {
    const item = make("li", `edit ${edit.state}`);
    item.dataset.edit = edit.seq;
    const head = make("p", "edit-head");
    const name = make("a", "edit-name", edit.name);
    name.href = edit.path;
    const when = make("time", "quiet", distance(Date.parse(edit.queued_at)) ?? new Date(edit.queued_at).toLocaleString());
    when.dateTime = edit.queued_at;
    head.append(name, when);
    item.append(head, ...this.#state(edit, held), this.#lines(edit));
    if (edit.reason) item.append(make("p", "entry-reason", `“${edit.reason}”`));
    item.append(this.#doors(edit, item));
    return item;
  }

  #state(edit, held) {
    if (edit.state === "refused") return [make("p", "edit-why", whyNot(edit.verdict, edit.why))];
    if (edit.state === "done") return [make("p", "edit-why", verdictOf(edit))];
    if (edit.tried) return [make("p", "quiet", _("It was sent, but no answer came: it may be saved already."))];
    return held.has(edit.stream) ? [make("p", "quiet", _("It waits behind one that was refused."))] : [];
  }

  #lines(edit) {
    const lines = make("div", "lines");
    for (const field of Object.values(edit.fields)) {
      const row = make("div", "line");
      const values = make("span", "line-values");
      values.append(make("del", "", shown(field, field.before)), " ", make("span", "arrow", "→"), " ");
      values.append(make("ins", "", shown(field, field.value)));
      row.append(make("span", "line-label", field.label), values);
      lines.append(row);
    }
    return lines;
  }

  #doors(edit, item) {
    const doors = make("p", "edit-doors");
    if (edit.state === "done" && edit.verdict.status === "conflict") {
      const door = make("a", "button small", _("Decide"));
      door.href = conflictAt(this.own.urls, edit);
      doors.append(door);
    }
    if (!isFree(edit)) return doors;
    const words = edit.state === "refused" ? [_("Fix"), _("Discard")] : [_("Change"), _("Cancel this edit")];
    doors.append(
      button(words[0], () => this.#change(edit, item)),
      button(words[1], () => this.#drop(edit), "button small danger"),
    );
    return doors;
  }

  // -- by hand --------------------------------------------------------------------------------------------------------

  /** The values of an edit as inputs, in its place. */
  #change(edit, item) {
    this.#editing = edit.id;
    const form = make("form", "edit-form");
    const inputs = Object.entries(edit.fields).map(([name, field]) => [name, inputOf(field)]);
    for (const [name, input] of inputs) {
      const label = make("label", "", "");
      label.append(make("span", "", edit.fields[name].label), input);
      const wrong = edit.verdict?.errors?.[name];
      if (wrong) label.append(make("span", "complaint", wrong));
      form.append(label);
    }
    const reason = inputOf({ kind: "text", value: edit.reason });
    const why = make("label");
    why.append(make("span", "", _("Why?")), reason);
    const unexplained = edit.verdict?.code === "reason_required";
    if (unexplained) why.append(make("span", "complaint", whyNot(edit.verdict, edit.why)));
    const save = make("button", "button small primary", edit.state === "refused" ? _("Send again") : _("Keep this"));
    const row = make("p", "edit-doors");
    row.append(save, button(_("Back"), () => this.#stop()));
    form.append(why, row);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const values = Object.fromEntries(inputs.map(([name, input]) => [name, read(input)]));
      this.#replace(edit, mended(edit, values, crypto.randomUUID(), reason.value.trim()));
    });
    item.replaceChildren(item.firstChild, form);
    (unexplained ? reason : inputs[0][1]).focus();
  }

  async #replace(edit, next) {
    const wrong = Object.values(next.fields).find(({ kind, value }) => kind === "json" && !isJson(value));
    if (wrong) return toast(_("Enter JSON; null for nothing."), "error");
    await this.own.queue.put([next], {}, (now) => now.id === edit.id && isFree(now));
    this.#stop();
    await this.own.flusher.poke();
  }

  #stop() {
    this.#editing = null;
    return this.#draw();
  }

  async #drop(edit) {
    await this.own.queue.remove([edit.seq], {}, (now) => now.id === edit.id && isFree(now));
    this.element.querySelector("[data-section=waiting] h2").scrollIntoView({ block: "nearest" });
    await this.own.flusher.poke(); // what waited behind it goes on
  }

  async #clear() {
    const done = (await this.own.queue.all()).filter((edit) => edit.state === "done" && edit.closed);
    await this.own.queue.remove(done.map((edit) => edit.seq));
  }

  async #export() {
    const edits = (await this.own.queue.all()).filter((edit) => edit.state !== "done");
    const link = make("a");
    link.download = `edits-${new Date().toISOString().slice(0, 10)}.json`;
    link.href = URL.createObjectURL(new Blob([exported(edits)], { type: "application/json" }));
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // -- what else is there ---------------------------------------------------------------------------------------------

  /** The pages of records that this browser kept, by the names they had. */
  async #listKept() {
    if (!globalThis.caches) return;
    const pages = await caches.open(`formease-pages-${this.own.person}`);
    const found = [];
    for (const request of (await pages.keys()).reverse()) {
      const page = new DOMParser().parseFromString(await (await pages.match(request)).text(), "text/html");
      const item = make("li");
      const link = make("a");
      link.href = new URL(request.url).pathname;
      link.append(make("span", "name", page.querySelector("h1[data-name]")?.textContent ?? link.pathname));
      item.append(link);
      found.push(item);
    }
    const section = this.element.querySelector("[data-kept-records]");
    section.hidden = !found.length;
    section.querySelector("ul").replaceChildren(...found);
  }
}

// -- values ------------------------------------------------------------------------------------------------------------

function shown({ kind, options }, value) {
  if (kind === "check") return value ? _("yes") : _("no");
  if (kind === "choice") return options.find(([each]) => each === value)?.[1] ?? value;
  if (kind === "json") return shownJson(value);
  return value.length > LONG ? `${value.slice(0, LONG)}…` : value || _("empty");
}

function shownJson(text) {
  try {
    const value = JSON.parse(text);
    if (Array.isArray(value) && value.every((one) => one?.id)) {
      return ngettext("%(n)s question", "%(n)s questions", value.length);
    }
  } catch {
    // as it was typed
  }
  return text.length > LONG ? `${text.slice(0, LONG)}…` : text;
}

function inputOf({ kind, value, options }) {
  const long = kind === "json" || (kind === "text" && (value.includes("\n") || value.length > LONG));
  const input = document.createElement(kind === "choice" ? "select" : long ? "textarea" : "input");
  if (kind === "choice") for (const [each, text] of options) input.add(new Option(text, each));
  if (kind === "json") input.className = "code";
  if (long) input.rows = 6;
  if (kind === "check") {
    input.type = "checkbox";
    input.checked = value;
  } else input.value = value;
  return input;
}

function read(input) {
  return input.type === "checkbox" ? input.checked : input.value;
}
