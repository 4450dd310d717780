import { noComposition } from "../composition.js";
import { button, make } from "../dom.js";
import { isQueued, isUnsaved, put, seenOf, setDefault, setQueued, valueOf } from "../inputs.js";
import { leave, post, reasonToStay } from "../posting.js";
import { toast } from "../toasts.js";
import { _ } from "../words.js";
import {
  basedOn,
  blockedStreams,
  cleaned,
  COMMANDS,
  differs,
  isJson,
  MAX_EDITS,
  openCount,
  savedVersions,
  seenBy,
  unseen,
} from "./edits.js";
import { shell } from "./shell.js";
import { isFull } from "./store.js";
import { conflictUrlOf, verdictOf } from "./verdicts.js";

/** The form of a record. Where the kind can be edited offline, a save without an answer is queued, and queued values are
 *  shown on top of the record. */
export function open(form) {
  const own = shell();
  if (own) new Saver(form, own).start();
}

class Saver {
  #decided = []; // edits with a verdict since the page was opened
  #lost = null; // a save that was neither answered nor queued: it may be saved

  constructor(form, own) {
    this.form = form;
    this.own = own;
    this.queues = COMMANDS.has(form.dataset.command);
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

  get #reason() {
    return this.form.elements.namedItem("reason");
  }

  get #inputs() {
    return [...this.#fields, this.#reason];
  }

  // -- saving -------------------------------------------------------------------------------------------------------

  /** 1 nothing typed: stay  2 offline, or an earlier edit waits: queue  3 else send what is typed by now, after an
   *  earlier save that had no answer  4 saved: leave, or stay with what was typed meanwhile  5 rejected: show the
   *  messages of the server  6 else queue under the same id, because the server may have saved it  7 after an answer
   *  to an earlier save: send what is typed by now */
  async #submit(event) {
    event.preventDefault();
    const fields = this.#typed();
    const isTyped = Object.keys(fields).length > 0;
    if (!isTyped && !this.#lost) return this.#stay(_("Nothing was changed."), "info"); // 1
    const sent = new Map(this.#inputs.map((field) => [field, valueOf(field)]));
    const typed = { fields, sent, body: new FormData(this.form) };
    this.form.dispatchEvent(new CustomEvent("saving", { detail: new Promise((done) => (this.done = done)) }));
    const edits = await this.#edits();
    const isBehind =
      edits !== null && (unseen(edits, this.stream, this.#version).length > 0 || blockedStreams(edits).has(this.stream));
    const isAway = edits !== null && this.own.network.state !== "online";
    if (isTyped && (isBehind || isAway)) return this.#keep(typed, { isBehind }); // 2
    const input = this.#lost ?? typed;
    const answer = await post(location.pathname, input.body, this.form); // 3
    if (answer.location || answer.theirs || answer.refusal) this.#lost = null;
    if (answer.location) this.#saved(answer, input); // 4
    else if (answer.theirs) this.#showMessages(answer.theirs); // 5
    else if (answer.refusal) this.#stay(answer.refusal);
    else this.#keep(input, { ...answer, id: input.body.get("command_id") }); // 6
    const isAnswered = answer.location === location.pathname || answer.theirs;
    if (isAnswered && input !== typed && !this.form.inert) this.form.requestSubmit(); // 7
    return undefined;
  }

  /** The queued edits; null where none can be stored. */
  #edits() {
    return this.queues ? this.own.queue.all().catch(() => null) : null;
  }

  /** Saved, or filed as a conflict. The page stays if something was typed meanwhile, and saves that on top. */
  #saved({ location: next, saved, version, values }, { fields, sent }) {
    const isOwn = (field) => field === this.#reason || field.name in fields || isUnsaved(field);
    const isLater = (field) => valueOf(field) !== sent.get(field) && isOwn(field); // also a change that was undone
    if (!this.#inputs.some(isLater)) return leave(this.form, next, () => this.#stay());
    this.form.elements.namedItem("command_id").value = crypto.randomUUID();
    if (next !== location.pathname) {
      this.#stay(_("Conflicts with a change by someone else. What you typed since then stays on this page."));
      const link = make("a", "button small", _("Resolve conflict"));
      link.href = next;
      this.#showLines([line(_("Conflicts with a change by someone else. A decision is needed."), link)]);
      return undefined;
    }
    for (const [field, value] of sent) {
      if (field.name in fields) setDefault(field, cleaned(fields[field.name].kind, value));
    }
    if (!isLater(this.#reason)) this.#reason.value = "";
    this.record.dispatchEvent(new CustomEvent("saved", { detail: { saved, version, values } }));
    const words = _("Saved as version %(version)s. What you typed since then is not saved yet.", {
      version: saved ?? version,
    });
    return this.#stay(words, "info");
  }

  /** The page stays open, with everything typed. */
  #stay(words = "", kind = "error") {
    this.done?.();
    this.form.dispatchEvent(new CustomEvent("stayed", { bubbles: true }));
    if (words) toast(words, kind);
  }

  /** Shows the messages of the same form on a page of the server on this one. */
  #showMessages(theirs) {
    this.#stay();
    this.form.querySelector(":scope > .notice.error")?.remove();
    const notice = theirs.querySelector(":scope > .notice.error");
    if (notice) this.form.querySelector(".grid").before(document.adoptNode(notice));
    const complaints = new Map();
    for (const field of this.#inputs) {
      const message = theirs.elements.namedItem(field.name)?.closest(".field")?.querySelector(".complaint");
      if (message) complaints.set(field, message.textContent.trim());
    }
    this.#complain(complaints);
  }

  /** Queues an input. `lost`, `status` and `state` describe an answer that was no verdict. */
  async #keep(input, { id = crypto.randomUUID(), lost = false, isBehind = false, ...answer }) {
    const { fields, sent } = input;
    const edits = await this.#edits();
    if (edits !== null && !this.#isValid(fields, sent)) return this.#stay();
    if (lost) this.#lost = input; // until it is queued
    if (edits === null) return this.#stay(this.queues && lost ? this.#notStored() : reasonToStay({ lost, ...answer }));
    if (openCount(edits) >= MAX_EDITS) {
      return this.#stay(_("Too many edits are waiting to be sent. Your changes stay on this page."));
    }
    const reason = this.#reason;
    const { command, key } = this.form.dataset;
    const edit = {
      id,
      tried: lost,
      fields,
      stream: this.stream,
      type: command,
      key,
      path: location.pathname,
      name: document.querySelector("h1[data-name]").textContent.trim(),
      ...basedOn(edits, this.stream, this.#version),
      queued_at: new Date().toISOString(),
      served_at: this.record.dataset.servedAt,
      reason: sent.get(reason).trim(),
      state: "waiting",
      verdict: null,
    };
    try {
      await this.own.queue.add(edit);
    } catch (error) {
      return this.#stay(
        isFull(error)
          ? _("The browser's storage is full, so your edit was not stored. Your changes stay on this page.")
          : this.#notStored(),
      );
    }
    this.#lost = null;
    if (reason.value === sent.get(reason)) reason.value = ""; // else it belongs to the next edit
    this.form.elements.namedItem("command_id").value = crypto.randomUUID();
    await this.#show();
    this.#stay(this.#whenSent(isBehind, answer.status), "warning");
    return this.own.flusher.flush();
  }

  #notStored() {
    return _("This browser does not store edits. Your changes stay on this page; save again once you are online.");
  }

  #whenSent(isBehind, status) {
    if (status) {
      return _("Stored in this browser: your network answered instead of FormEase (%(status)s). It is sent again later.", {
        status,
      });
    }
    const words = {
      online: isBehind
        ? _("Stored in this browser; it will be sent after an earlier edit.")
        : _("Stored in this browser. It will be sent again shortly."),
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
  #isValid(fields, sent) {
    const complaints = new Map();
    for (const [name, { kind, value }] of Object.entries(fields)) {
      const field = this.form.elements.namedItem(name);
      const message = field.validationMessage || (kind === "email" ? addressError(value) : "");
      if (message) complaints.set(field, message);
      if (kind === "json" && !isJson(value)) complaints.set(field, _("Enter valid JSON, or null for no value."));
    }
    const reason = this.#reason;
    const critical = this.form.dataset.critical.split(" ").some((name) => name in fields);
    if (critical && !sent.get(reason).trim()) {
      complaints.set(reason, this.form.dataset.criticalMessage);
    }
    this.#complain(complaints);
    return !complaints.size;
  }

  #complain(complaints) {
    for (const field of this.#inputs) complain(field, complaints.get(field));
    complaints.keys().next().value?.focus();
  }

  // -- queued values on top of the record -----------------------------------------------------------------------------

  async #show() {
    const edits = (await this.#edits()) ?? [];
    await noComposition();
    const mine = unseen(this.#withSaved(edits), this.stream, this.#version);
    const [seen, versions] = [seenBy(mine), savedVersions(mine)];
    for (const field of this.#fields) this.#showField(field, seen, versions);
    this.#showNotice(edits, mine);
    this.form.dispatchEvent(new CustomEvent("queued"));
  }

  /** Keeps unsaved typing; replaces values of edits that conflict or were rejected by the value of the server. A saved
   *  edit that the page has merged into the field already is not shown again, although another field holds the base. */
  #showField(field, seen, versions) {
    const before = seenOf(field);
    const untyped = !differs(kindOf(field), valueOf(field), before);
    const isApplied = !isQueued(field) && versions.get(field.name) <= Number(this.record.dataset.version);
    setQueued(field, isApplied ? undefined : seen.get(field.name), versions.get(field.name));
    if (untyped && seenOf(field) !== valueOf(field)) put(field, seenOf(field));
    field.closest("[data-field]").classList.toggle("queued-field", isQueued(field));
  }

  #showNotice(edits, mine) {
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
    this.#showLines(lines);
  }

  #showLines(lines) {
    const bar = this.form.querySelector("[data-mine]");
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
    this.#decided.push(...verdicts.filter((edit) => edit.state === "done"));
    await this.#show();
    if (verdicts.length) this.record.dispatchEvent(new CustomEvent("look"));
  }

  /** The edits, and those with a verdict that have left a full storage. */
  #withSaved(edits) {
    const ids = new Set(edits.map(({ id }) => id));
    return [...edits, ...this.#decided.filter(({ id }) => !ids.has(id))];
  }
}

const isOpenConflict = (edit) => edit.state === "done" && edit.verdict.status === "conflict" && !edit.looked;

function kindOf(field) {
  if (field.type === "checkbox") return "check";
  if (field instanceof HTMLSelectElement) return "choice";
  return field.dataset.kind ?? "text";
}

/** The browser's message about an email address. The field is a text input, because those keep the selection. */
function addressError(value) {
  const input = document.createElement("input");
  input.type = "email";
  input.value = value;
  return input.validationMessage;
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
