import { button, make } from "../dom.js";
import { defaultOf, isQueued, put, seenOf, setQueued, valueOf } from "../inputs.js";
import { toast } from "../toasts.js";
import { _ } from "../words.js";
import { basedOn, COMMANDS, differs, heldUp, isJson, MAX_EDITS, seenBy, unseen, unsettled } from "./edits.js";
import { shell, token } from "./shell.js";
import { conflictAt, verdictOf } from "./told.js";

const ANSWER_MS = 20_000; // a save that takes longer is kept here and sent again: twice is once, by its id

/** The form of a record: a save that does not get through waits here, and what waits is shown on top of the record. */
export function open() {
  const form = document.querySelector("[data-command]");
  const own = shell();
  if (own && COMMANDS.has(form.dataset.command)) new Saver(form, own).start();
}

class Saver {
  constructor(form, own) {
    this.form = form;
    this.own = own;
    this.record = form.closest("[data-record]");
    this.stream = this.record.dataset.stream;
  }

  async start() {
    this.form.addEventListener("submit", (event) => this.#submit(event));
    this.own.queue.onChange(({ told = [] }) => this.#changed(told.filter((edit) => edit.stream === this.stream)));
    this.record.addEventListener("looked", () => this.#show());
    if ("kept" in document.documentElement.dataset) dropOldToasts();
    await this.#show();
    this.form.dataset.ready = "";
  }

  get #version() {
    return Number(this.form.elements.namedItem("base_version").value);
  }

  get #fields() {
    return [...this.form.elements].filter((field) => field.closest("[data-field]") && field.name && !field.disabled);
  }

  // -- saving -------------------------------------------------------------------------------------------------------

  /** 1 nothing typed: the server says so, if it can be reached  2 no network, or an elder waits: into the queue, after
   *  it  3 else to the server  4 that does not answer: into the queue, under the same id, whatever became of it there */
  async #submit(event) {
    event.preventDefault();
    const fields = this.#typed();
    const away = this.own.network.state !== "there";
    if (!away && !Object.keys(fields).length && !this.#fields.some(isQueued)) return this.form.submit(); // 1
    const edits = await this.own.queue.all().catch(() => null);
    if (edits === null) return this.form.submit(); // this browser keeps nothing: as without scripts
    const elders = unseen(edits, this.stream, this.#version).length || heldUp(edits).has(this.stream);
    if (elders || away) return this.#keep(fields, edits); // 2
    const answer = await this.#send(); // 3
    if (answer.location) location.assign(answer.location);
    else if (answer.here) this.form.submit(); // it has something to say about it
    else this.#keep(fields, edits, { id: this.form.elements.namedItem("command_id").value, tried: answer.tried }); // 4
  }

  async #send() {
    const body = new FormData(this.form);
    body.set("csrfmiddlewaretoken", token());
    const headers = { "X-Requested-With": "fetch", "X-Person": String(this.own.person) };
    try {
      const answer = await fetch(location.pathname, { method: "POST", body, headers, signal: AbortSignal.timeout(ANSWER_MS) });
      if (answer.redirected) this.own.network.ask(); // to the login page
      if (answer.redirected) return { tried: false };
      if (answer.status >= 500) this.own.network.lost();
      if (answer.status >= 500) return { tried: true };
      const told = answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : {};
      if (told.code === "other_person") this.own.network.ask();
      if (told.code === "other_person") return { tried: false };
      return told.location ? told : { here: true };
    } catch {
      this.own.network.lost();
      return { tried: true };
    }
  }

  async #keep(fields, edits, { id = crypto.randomUUID(), tried = false } = {}) {
    const stay = () => this.form.dispatchEvent(new CustomEvent("stayed", { bubbles: true }));
    if (!Object.keys(fields).length) toast(_("Nothing was changed."));
    if (!Object.keys(fields).length || !this.#isRight(fields)) return stay();
    if (unsettled(edits) >= MAX_EDITS) {
      stay();
      toast(_("Too many edits wait here already. Your typing stays on this page."), "error");
      return;
    }
    const reason = this.form.elements.namedItem("reason");
    const { command, key } = this.form.dataset;
    const edit = {
      id,
      tried,
      fields,
      stream: this.stream,
      type: command,
      key,
      path: location.pathname,
      name: document.querySelector("h1[data-name]").textContent.trim(),
      ...basedOn(edits, this.stream, this.#version),
      queued_at: new Date().toISOString(),
      reason: reason.value.trim(),
      state: "waiting",
      verdict: null,
    };
    try {
      await this.own.queue.add(edit);
    } catch {
      stay();
      toast(_("This browser has no room to keep your edit. Your typing stays on this page."), "error");
      return;
    }
    reason.value = "";
    this.form.elements.namedItem("command_id").value = crypto.randomUUID();
    await this.#show();
    stay();
    toast(this.#whenSent(), "warning");
    this.own.flusher.poke();
  }

  #whenSent() {
    const words = {
      there: _("Kept here, behind an earlier edit."),
      signed_out: _("Kept here. Log in, and it is sent."),
      other: _("Kept here. It is sent when you are signed in again."),
    };
    return words[this.own.network.state] ?? _("Kept here. It is sent when the connection is back.");
  }

  /** What was typed since the last save, as an edit has it. */
  #typed() {
    const fields = {};
    for (const field of this.#fields) {
      const kind = kindOf(field);
      if (!differs(kind, valueOf(field), seenOf(field))) continue;
      const before = seenOf(field);
      fields[field.name] = { kind, label: labelOf(field), value: valueOf(field), before };
      if (kind === "choice") fields[field.name].options = [...field.options].map(({ value, text }) => [value, text]);
    }
    return fields;
  }

  /** What the server would say at once: better now, while it can be mended, than in a day. */
  #isRight(fields) {
    const complaints = new Map();
    for (const name of Object.keys(fields)) {
      const field = this.form.elements.namedItem(name);
      if (!field.checkValidity()) complaints.set(field, field.validationMessage);
      if (fields[name].kind === "json" && !isJson(field.value)) complaints.set(field, _("Enter JSON; null for nothing."));
    }
    const reason = this.form.elements.namedItem("reason");
    const critical = this.form.dataset.critical.split(" ").some((name) => name in fields);
    if (critical && !reason.value.trim()) {
      complaints.set(reason, this.form.dataset.criticalMessage);
    }
    for (const field of [...this.#fields, reason]) complain(field, complaints.get(field));
    complaints.keys().next().value?.focus();
    return !complaints.size;
  }

  // -- what waits, on top of the record -------------------------------------------------------------------------------

  async #show() {
    const edits = await this.own.queue.all().catch(() => []);
    const mine = unseen(edits, this.stream, this.#version);
    const seen = seenBy(mine);
    for (const field of this.#fields) this.#showField(field, seen);
    this.#showNotice(edits, mine);
    this.form.dispatchEvent(new CustomEvent("queued"));
  }

  /** Typing that is not saved yet stays; what went into the inbox or the tray makes room for what the server has. */
  #showField(field, seen) {
    const before = seenOf(field);
    const untyped = !differs(kindOf(field), valueOf(field), before);
    setQueued(field, seen.get(field.name));
    if (untyped && seenOf(field) !== valueOf(field)) put(field, seenOf(field));
    field.closest("[data-field]").classList.toggle("queued-field", isQueued(field));
  }

  #showNotice(edits, mine) {
    const bar = this.form.querySelector("[data-mine]");
    const ours = edits.filter((edit) => edit.stream === this.stream);
    const told = ours.filter((edit) => edit.state === "refused" || isOpenConflict(edit));
    const n = mine.filter((edit) => edit.state === "waiting").length;
    const now = JSON.stringify([n, told]);
    if (now === this.noticed) return; // whoever is on one of its links stays there
    this.noticed = now;
    const lines = told.map((edit) => this.#line(edit));
    if (n) lines.push(line(_("Not sent yet: %(n)s. Shown here as if it were saved.", { n }), this.#door(_("Look at them"))));
    bar.replaceChildren(...lines);
    bar.hidden = !lines.length;
  }

  #line(edit) {
    if (edit.state === "refused") return line(verdictOf(edit), this.#door(_("Mend or drop")));
    const door = make("a", "button small", _("Decide"));
    door.href = conflictAt(this.own.urls, edit);
    const close = button(_("Close"), () => this.own.queue.put([{ ...edit, looked: true }]));
    return line(verdictOf(edit), door, close);
  }

  #door(words) {
    const door = make("a", "button small", words);
    door.href = this.own.urls.queueUrl;
    return door;
  }

  /** The queue changed; `told` are verdicts on edits of this record. What is saved comes in as news of the record do:
   *  till then it is shown as it waited. */
  #changed(told) {
    const saved = told.some((edit) => edit.state === "done" && edit.verdict.status !== "conflict");
    if (!saved) this.#show();
    if (told.length) this.record.dispatchEvent(new CustomEvent("look"));
  }
}

const isOpenConflict = (edit) => edit.state === "done" && edit.verdict.status === "conflict" && !edit.looked;

function kindOf(field) {
  if (field.type === "checkbox") return "check";
  if (field instanceof HTMLSelectElement) return "choice";
  return field.dataset.kind ?? (field.type === "email" ? "email" : "text");
}

function labelOf(field) {
  const label = field.closest("[data-field]").querySelector("label");
  return [...label.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join("").trim();
}

function complain(field, message) {
  const box = field.closest(".field");
  box.classList.toggle("wrong", Boolean(message));
  box.querySelector(".complaint")?.remove();
  if (!message) return;
  const text = make("p", "complaint", message);
  text.setAttribute("role", "alert");
  box.append(text);
}

function line(words, ...doors) {
  const element = make("p", "mine-line");
  element.append(make("span", "", words), ...doors);
  return element;
}

function dropOldToasts() {
  document.querySelectorAll("[data-toasts] .toast").forEach((old) => old.remove());
}
