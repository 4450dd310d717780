import { noComposition } from "../composition.js";
import { button, make } from "../dom.js";
import { defaultOf, isQueued, put, seenOf, setQueued, valueOf } from "../inputs.js";
import { toast } from "../toasts.js";
import { _ } from "../words.js";
import { basedOn, blockedStreams, COMMANDS, differs, isJson, MAX_EDITS, openCount } from "./edits.js";
import { savedVersions, seenBy, unseen } from "./edits.js";
import { shell, token } from "./shell.js";
import { conflictUrlOf, verdictOf } from "./verdicts.js";

const ANSWER_MS = 20_000; // a slower save is queued and sent again; its id makes that idempotent

/** The form of a record: a save without an answer is queued, and queued values are shown on top of the record. */
export function open() {
  const form = document.querySelector("[data-command]");
  const own = shell();
  if (own && COMMANDS.has(form.dataset.command)) new Saver(form, own).start();
}

class Saver {
  #saved = []; // edits with a verdict since the page was opened

  constructor(form, own) {
    this.form = form;
    this.own = own;
    this.record = form.closest("[data-record]");
    this.stream = this.record.dataset.stream;
  }

  async start() {
    this.form.addEventListener("submit", (event) => this.#submit(event));
    this.own.queue.onChange(({ verdicts = [] }) => this.#changed(verdicts.filter((edit) => edit.stream === this.stream)));
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

  /** 1 nothing typed: submit, the server reports it  2 offline, or an earlier edit waits: queue  3 else send
   *  4 no answer: queue under the same id, because the server may have saved it */
  async #submit(event) {
    event.preventDefault();
    const fields = this.#typed();
    const isOffline = this.own.network.state !== "online";
    if (!isOffline && !Object.keys(fields).length && !this.#fields.some(isQueued)) return this.form.submit(); // 1
    const edits = await this.own.queue.all().catch(() => null);
    if (edits === null) return this.form.submit(); // no storage: as without scripts
    const predecessors = unseen(edits, this.stream, this.#version).length || blockedStreams(edits).has(this.stream);
    if (predecessors || isOffline) return this.#keep(fields, edits); // 2
    const answer = await this.#send(); // 3
    if (answer.location) location.assign(answer.location);
    else if (answer.here) this.form.submit(); // the server renders its messages
    else this.#keep(fields, edits, { id: this.form.elements.namedItem("command_id").value, tried: answer.tried }); // 4
  }

  async #send() {
    const body = new FormData(this.form);
    body.set("csrfmiddlewaretoken", token());
    const headers = { "X-Requested-With": "fetch", "X-Person": String(this.own.person) };
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const answer = await fetch(location.pathname, { method: "POST", body, headers, signal });
      if (answer.redirected) this.own.network.ask(); // to the login page
      if (answer.redirected) return { tried: false };
      if (answer.status >= 500) this.own.network.lost();
      if (answer.status >= 500) return { tried: true };
      const result = answer.headers.get("Content-Type")?.includes("json") ? await answer.json() : {};
      if (result.code === "other_person") this.own.network.ask();
      if (result.code === "other_person") return { tried: false };
      return result.location ? result : { here: true };
    } catch {
      this.own.network.lost();
      return { tried: true };
    }
  }

  async #keep(fields, edits, { id = crypto.randomUUID(), tried = false } = {}) {
    const stay = () => this.form.dispatchEvent(new CustomEvent("stayed", { bubbles: true }));
    if (!Object.keys(fields).length) toast(_("Nothing was changed."));
    if (!Object.keys(fields).length || !this.#isValid(fields)) return stay();
    if (openCount(edits) >= MAX_EDITS) {
      stay();
      toast(_("Too many edits are waiting to be sent. Your changes stay on this page."), "error");
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
      toast(_("The browser's storage is full, so your edit was not stored. Your changes stay on this page."), "error");
      return;
    }
    reason.value = "";
    this.form.elements.namedItem("command_id").value = crypto.randomUUID();
    await this.#show();
    stay();
    toast(this.#whenSent(), "warning");
    this.own.flusher.flush();
  }

  #whenSent() {
    const words = {
      online: _("Stored in this browser; it will be sent after an earlier edit."),
      signed_out: _("Stored in this browser. Sign in to send it."),
      other: _("Stored in this browser. It will be sent when you sign in again."),
    };
    return words[this.own.network.state] ?? _("Stored in this browser. It will be sent when you are back online.");
  }

  /** The fields typed since the last save, in the form of an edit. */
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

  /** Validates as the server would, while the person can still correct it. */
  #isValid(fields) {
    const complaints = new Map();
    for (const name of Object.keys(fields)) {
      const field = this.form.elements.namedItem(name);
      if (!field.checkValidity()) complaints.set(field, field.validationMessage);
      if (fields[name].kind === "json" && !isJson(field.value)) {
        complaints.set(field, _("Enter valid JSON, or null for no value."));
      }
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

  // -- queued values on top of the record -----------------------------------------------------------------------------

  async #show() {
    const edits = await this.own.queue.all().catch(() => []);
    await noComposition();
    const mine = unseen(this.#withSaved(edits), this.stream, Math.max(this.#version, Number(this.record.dataset.version)));
    const [seen, versions] = [seenBy(mine), savedVersions(mine)];
    for (const field of this.#fields) this.#showField(field, seen, versions);
    this.#showNotice(edits, mine);
    this.form.dispatchEvent(new CustomEvent("queued"));
  }

  /** Keeps unsaved typing; replaces values that went to the inbox or the tray by the value of the server. */
  #showField(field, seen, versions) {
    const before = seenOf(field);
    const untyped = !differs(kindOf(field), valueOf(field), before);
    setQueued(field, seen.get(field.name), versions.get(field.name));
    if (untyped && seenOf(field) !== valueOf(field)) put(field, seenOf(field));
    field.closest("[data-field]").classList.toggle("queued-field", isQueued(field));
  }

  #showNotice(edits, mine) {
    const bar = this.form.querySelector("[data-mine]");
    const ours = edits.filter((edit) => edit.stream === this.stream);
    const reported = ours.filter((edit) => edit.state === "refused" || isOpenConflict(edit));
    const n = mine.filter((edit) => edit.state === "waiting").length;
    const now = JSON.stringify([n, reported]);
    if (now === this.noticed) return; // keeps the focus on its links
    this.noticed = now;
    const lines = reported.map((edit) => this.#line(edit));
    if (n) {
      const words = _("Edits not sent yet: %(n)s. The form shows them as if they were saved.", { n });
      lines.push(line(words, this.#queueLink(_("View edits"))));
    }
    bar.replaceChildren(...lines);
    bar.hidden = !lines.length;
  }

  #line(edit) {
    if (edit.state === "refused") return line(verdictOf(edit), this.#queueLink(_("Fix or discard")));
    const link = make("a", "button small", _("Resolve conflict"));
    link.href = conflictUrlOf(this.own.urls, edit);
    const close = button(_("Close"), () => this.own.queue.put([{ ...edit, looked: true }]));
    return line(verdictOf(edit), link, close);
  }

  #queueLink(words) {
    const link = make("a", "button small", words);
    link.href = this.own.urls.queueUrl;
    return link;
  }

  /** The queue changed; `verdicts` are those on edits of this record. A saved value stays shown as queued until the
   *  update of the record arrives. */
  async #changed(verdicts) {
    this.#saved.push(...verdicts.filter((edit) => edit.state === "done"));
    await this.#show();
    if (verdicts.length) this.record.dispatchEvent(new CustomEvent("look"));
  }

  /** The edits, and those with a verdict that have left a full storage. */
  #withSaved(edits) {
    const ids = new Set(edits.map(({ id }) => id));
    return [...edits, ...this.#saved.filter(({ id }) => !ids.has(id))];
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
  const texts = [...label.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
  return texts.map((node) => node.data).join("").trim();
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

function line(words, ...actions) {
  const element = make("p", "mine-line");
  element.append(make("span", "", words), ...actions);
  return element;
}

function dropOldToasts() {
  document.querySelectorAll("[data-toasts] .toast").forEach((old) => old.remove());
}
