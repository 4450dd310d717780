import { distance } from "../ago.js";
import { button, make } from "../dom.js";
import { toast } from "../toasts.js";
import { _, ngettext } from "../words.js";
import { blockedStreams, corrected, exported, isFree, isJson, waiting } from "./edits.js";
import { shell } from "./shell.js";
import { conflictUrlOf, rejectionText, verdictOf } from "./verdicts.js";

const LONG = 80;

/** The page of offline edits: waiting, rejected and finished ones. */
export function open(element) {
  if ("kept" in document.documentElement.dataset && location.pathname !== element.dataset.queueUrl) {
    element.querySelector("[data-not-kept]").hidden = false;
  }
  element.querySelector("[data-retry]").addEventListener("click", () => location.reload());
  const own = shell();
  if (own) new EditsPage(element, own).start();
}

class EditsPage {
  #editing = null; // id of the edit in the form

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
    if (this.#editing && this.element.querySelector("form")) return; // never replaces an open form
    const edits = await this.own.queue.all();
    const blocked = blockedStreams(edits);
    const sections = {
      refused: edits.filter((edit) => edit.state === "refused"),
      waiting: waiting(edits),
      done: edits.filter((edit) => edit.state === "done").reverse(),
    };
    for (const [name, found] of Object.entries(sections)) {
      const section = this.element.querySelector(`[data-section="${name}"]`);
      section.hidden = name !== "waiting" && !found.length;
      section.querySelector("[data-list-edits]").replaceChildren(...found.map((edit) => this.#item(edit, blocked)));
    }
    this.element.querySelector("[data-none]").hidden = sections.waiting.length > 0;
    this.element.querySelector("[data-export]").hidden = !(sections.waiting.length + sections.refused.length);
  }

  #item(edit, blocked) {
    const item = make("li", `edit ${edit.state}`);
    item.dataset.edit = edit.seq;
    const head = make("p", "edit-head");
    const name = make("a", "edit-name", edit.name);
    name.href = edit.path;
    const queuedAt = new Date(edit.queued_at);
    const when = make("time", "quiet", distance(queuedAt.getTime()) ?? queuedAt.toLocaleString());
    when.dateTime = edit.queued_at;
    head.append(name, when);
    item.append(head, ...this.#state(edit, blocked), this.#diffRows(edit));
    if (edit.reason) item.append(make("p", "entry-reason", _("“%(text)s”", { text: edit.reason })));
    item.append(this.#actions(edit, item));
    return item;
  }

  #state(edit, blocked) {
    if (edit.state === "refused") return [make("p", "edit-why", rejectionText(edit.verdict, edit.why))];
    if (edit.state === "done") return [make("p", "edit-why", verdictOf(edit))];
    if (edit.tried) return [make("p", "quiet", _("Sent, but the server did not answer. It may already be saved."))];
    if (!blocked.has(edit.stream)) return [];
    return [make("p", "quiet", _("Waiting: an earlier edit of this record was rejected."))];
  }

  #diffRows(edit) {
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

  #actions(edit, item) {
    const actions = make("p", "edit-doors");
    if (edit.state === "done" && edit.verdict.status === "conflict") {
      const link = make("a", "button small", _("Resolve conflict"));
      link.href = conflictUrlOf(this.own.urls, edit);
      actions.append(link);
    }
    if (!isFree(edit)) return actions;
    const words = edit.state === "refused" ? [_("Fix"), _("Discard")] : [_("Edit"), _("Cancel this edit")];
    actions.append(
      button(words[0], () => this.#change(edit, item)),
      button(words[1], () => this.#drop(edit), "button small danger"),
    );
    return actions;
  }

  // -- manual changes -------------------------------------------------------------------------------------------------

  /** Replaces an edit in the list by a form with its values. */
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
    why.append(make("span", "", _("Reason")), reason);
    const lacksReason = edit.verdict?.code === "reason_required";
    if (lacksReason) why.append(make("span", "complaint", rejectionText(edit.verdict, edit.why)));
    const save = make("button", "button small primary", edit.state === "refused" ? _("Send again") : _("Save edit"));
    const row = make("p", "edit-doors");
    row.append(save, button(_("Back"), () => this.#stop()));
    form.append(why, row);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const values = Object.fromEntries(inputs.map(([name, input]) => [name, read(input)]));
      this.#replace(edit, corrected(edit, values, crypto.randomUUID(), reason.value.trim()));
    });
    item.replaceChildren(item.firstChild, form);
    (lacksReason ? reason : inputs[0][1]).focus();
  }

  async #replace(edit, next) {
    const wrong = Object.values(next.fields).find(({ kind, value }) => kind === "json" && !isJson(value));
    if (wrong) return toast(_("Enter valid JSON, or null for no value."), "error");
    await this.own.queue.put([next], {}, (now) => now.id === edit.id && isFree(now));
    this.#stop();
    await this.own.flusher.flush();
  }

  #stop() {
    this.#editing = null;
    return this.#draw();
  }

  async #drop(edit) {
    await this.own.queue.remove([edit.seq], {}, (now) => now.id === edit.id && isFree(now));
    this.element.querySelector("[data-section=waiting] h2").scrollIntoView({ block: "nearest" });
    await this.own.flusher.flush(); // edits that it blocked are sent
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

  // -- pages kept for offline use -------------------------------------------------------------------------------------

  /** Lists the record pages in the cache by their names. */
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

// -- values -----------------------------------------------------------------------------------------------------------

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
    // shown as typed
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
