import { noComposition } from "../composition.js";
import { button, make } from "../dom.js";
import { isJson as isJsonAnswer, isOurs } from "../answers.js";
import { isQueued, isUnsaved, put, seenOf, setDefault, setQueued, valueOf } from "../inputs.js";
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
import { shell, token } from "./shell.js";
import { isFull } from "./store.js";
import { conflictUrlOf, verdictOf } from "./verdicts.js";

const ANSWER_MS = 20_000; // a slower save is queued and sent again; its id makes that idempotent

/** The form of a record: a save without an answer is queued, and queued values are shown on top of the record. */
export function open() {
  const form = document.querySelector("[data-command]");
  const own = shell();
  if (own && COMMANDS.has(form.dataset.command)) new Saver(form, own).start();
}

class Saver {
  #decided = []; // edits with a verdict since the page was opened

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

  get #reason() {
    return this.form.elements.namedItem("reason");
  }

  get #inputs() {
    return [...this.#fields, this.#reason];
  }

  // -- saving -------------------------------------------------------------------------------------------------------

  /** 1 nothing typed: stay  2 offline, or an earlier edit waits: queue  3 else send what is typed by now
   *  4 saved: leave, or stay with what was typed meanwhile  5 rejected: show the messages of the server
   *  6 else queue under the same id, because the server may have saved it */
  async #submit(event) {
    event.preventDefault();
    const fields = this.#typed();
    if (!Object.keys(fields).length) return this.#stay(_("Nothing was changed."), "info"); // 1
    const sent = new Map(this.#inputs.map((field) => [field, valueOf(field)]));
    const body = new FormData(this.form);
    this.form.dispatchEvent(new CustomEvent("saving", { detail: new Promise((done) => (this.done = done)) }));
    const edits = await this.own.queue.all().catch(() => null); // null: this browser does not store edits
    const isBehind =
      edits !== null && (unseen(edits, this.stream, this.#version).length > 0 || blockedStreams(edits).has(this.stream));
    if (isBehind || this.own.network.state !== "online") return this.#keep(fields, edits, { isBehind }); // 2
    const answer = await this.#send(body); // 3
    if (answer.location) this.#saved(answer, fields, sent); // 4
    else if (answer.page) this.#showMessages(answer.page); // 5
    else if (answer.refusal) this.#stay(answer.refusal);
    else this.#keep(fields, edits, { ...answer, id: body.get("command_id") }); // 6
  }

  /** Returns `location` (saved, or filed as a conflict), `page` (with messages), `refusal` (nothing was saved, and
   *  sending it again would not help), or for the queue `tried` (it may be saved) and `why`. */
  async #send(body) {
    const { network, person } = this.own;
    body.set("csrfmiddlewaretoken", token());
    const headers = { "X-Requested-With": "fetch", "X-Person": String(person) };
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const answer = await fetch(location.pathname, { method: "POST", body, headers, signal });
      if (answer.status === 413) {
        return { refusal: _("This edit is too large for the server. Your changes stay on this page.") };
      }
      if (!isOurs(answer) || answer.status >= 500) {
        network.lost();
        return { tried: true, why: isOurs(answer) ? "" : this.#notOurs(answer.status) };
      }
      const result = isJsonAnswer(answer) ? await answer.json() : {};
      if (result.location) return result;
      const page = new DOMParser().parseFromString(isJsonAnswer(answer) ? "" : await answer.text(), "text/html");
      if (page.querySelector("form[data-edit]")) return { page };
      await network.ask(); // signed out, another person, an old token, a missing right or record: the queue reports it
      return { tried: false };
    } catch {
      network.lost();
      return { tried: true };
    }
  }

  #notOurs(status) {
    return _("Stored in this browser: your network answered instead of FormEase (%(status)s). It is sent again later.", {
      status,
    });
  }

  /** Saved, or filed as a conflict. The page stays if something was typed meanwhile, and saves that on top. */
  #saved({ location: next, version, values }, fields, sent) {
    const isLater = (field) => valueOf(field) !== sent.get(field) && (field === this.#reason || isUnsaved(field));
    if (!this.#inputs.some(isLater)) return this.#leave(next);
    if (next !== location.pathname) {
      this.#stay(_("Conflicts with a change by someone else. What you typed since then stays on this page."));
      const link = make("a", "button small", _("Resolve conflict"));
      link.href = next;
      this.#showLines([line(_("Conflicts with a change by someone else. A decision is needed."), link)]);
      return undefined;
    }
    for (const [field, value] of sent) {
      if (!(field.name in fields)) continue;
      const typed = valueOf(field);
      setDefault(field, cleaned(fields[field.name].kind, value));
      if (field instanceof HTMLSelectElement) field.value = typed; // a new default may select another option
    }
    if (!isLater(this.#reason)) this.#reason.value = "";
    this.form.elements.namedItem("command_id").value = crypto.randomUUID();
    this.record.dispatchEvent(new CustomEvent("saved", { detail: { version, values } }));
    return this.#stay(_("Saved as version %(version)s. What you typed since then is not saved yet.", { version }), "info");
  }

  /** Typing that the next page would discard is not accepted any more. */
  #leave(address) {
    this.form.inert = true;
    const back = () => {
      this.form.inert = false;
      this.#stay();
    };
    window.addEventListener("pageshow", back, { once: true });
    globalThis.navigation?.addEventListener("navigateerror", back, { once: true });
    location.assign(address);
  }

  /** The page stays open, with everything typed. */
  #stay(words = "", kind = "error") {
    this.done?.();
    this.form.dispatchEvent(new CustomEvent("stayed", { bubbles: true }));
    if (words) toast(words, kind);
  }

  /** Shows the messages of a page of the server on this one. */
  #showMessages(page) {
    this.#stay();
    const theirs = page.querySelector("form[data-edit]");
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

  async #keep(fields, edits, { id = crypto.randomUUID(), tried = false, isBehind = false, why = "" } = {}) {
    if (edits === null) return this.#stay(this.#notStored());
    if (!this.#isValid(fields)) return this.#stay();
    if (openCount(edits) >= MAX_EDITS) {
      return this.#stay(_("Too many edits are waiting to be sent. Your changes stay on this page."));
    }
    const reason = this.#reason;
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
    } catch (error) {
      return this.#stay(
        isFull(error)
          ? _("The browser's storage is full, so your edit was not stored. Your changes stay on this page.")
          : this.#notStored(),
      );
    }
    reason.value = "";
    this.form.elements.namedItem("command_id").value = crypto.randomUUID();
    await this.#show();
    this.#stay(why || this.#whenSent(isBehind), "warning");
    return this.own.flusher.flush();
  }

  #notStored() {
    return _("Not saved: this browser does not store edits. Your changes stay on this page; save again once you are online.");
  }

  #whenSent(isBehind) {
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
  #isValid(fields) {
    const complaints = new Map();
    for (const name of Object.keys(fields)) {
      const field = this.form.elements.namedItem(name);
      if (!field.checkValidity()) complaints.set(field, field.validationMessage);
      if (fields[name].kind === "json" && !isJson(field.value)) {
        complaints.set(field, _("Enter valid JSON, or null for no value."));
      }
    }
    const reason = this.#reason;
    const critical = this.form.dataset.critical.split(" ").some((name) => name in fields);
    if (critical && !reason.value.trim()) {
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
    const edits = await this.own.queue.all().catch(() => []);
    await noComposition();
    const mine = unseen(this.#withSaved(edits), this.stream, Math.max(this.#version, Number(this.record.dataset.version)));
    const [seen, versions] = [seenBy(mine), savedVersions(mine)];
    for (const field of this.#fields) this.#showField(field, seen, versions);
    this.#showNotice(edits, mine);
    this.form.dispatchEvent(new CustomEvent("queued"));
  }

  /** Keeps unsaved typing; replaces values of edits that conflict or were rejected by the value of the server. */
  #showField(field, seen, versions) {
    const before = seenOf(field);
    const untyped = !differs(kindOf(field), valueOf(field), before);
    setQueued(field, seen.get(field.name), versions.get(field.name));
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
