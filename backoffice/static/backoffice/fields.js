import { make } from "./dom.js";
import { putText } from "./inputs.js";
import { newQuestionId, questionName, TYPES, typeName } from "./questions.js";
import { _ } from "./words.js";

const WITH_OPTIONS = new Set(["single_choice", "multiple_choice", "ranking", "matrix"]);

/** Edits the questions of a form as a list. The textarea below it stays the source of truth: it is submitted. */
export function open() {
  for (const area of document.querySelectorAll("textarea[data-fields-editor]")) new FieldsEditor(area).start();
}

class FieldsEditor {
  #questions = [];
  #opened = null;
  #dragged = null;
  #refreshers = new WeakMap(); // item -> function that shows a question in it

  constructor(area) {
    this.area = area;
  }

  start() {
    this.root = make("div", "editor");
    this.list = make("div", "editor-list");
    this.foot = make("div", "editor-foot");
    this.announcer = make("p", "visually-hidden");
    this.announcer.setAttribute("aria-live", "polite");
    const add = make("button", "button small", _("Add a question"));
    this.json = make("button", "quiet-link", _("Edit as JSON"));
    add.type = this.json.type = "button";
    add.addEventListener("click", () => this.#add());
    this.json.addEventListener("click", () => this.#toggleJson());
    this.foot.append(add, this.json);
    this.root.append(this.list, this.foot, this.announcer);
    this.area.before(this.root);
    this.area.addEventListener("brought-in", () => this.#update());
    this.area.addEventListener("change", () => this.area.hidden || this.#read());
    this.#read();
  }

  /** Reads the textarea and draws its questions, all but the `kept` item anew. */
  #read(kept = null) {
    try {
      const found = JSON.parse(this.area.value || "[]");
      if (!Array.isArray(found) || found.some((one) => one === null || typeof one !== "object")) throw new TypeError();
      this.#questions = found;
      if (!this.area.dataset.json) this.#showJson(false);
      this.#draw(kept);
    } catch {
      this.#showJson(true); // invalid JSON is left to the person who typed it
    }
  }

  /** Shows questions that others changed. The item that has the focus keeps its elements, and so the selection and the
   *  undo history. */
  #update() {
    const item = document.activeElement?.closest(".question");
    this.#read(this.list.contains(item) ? item : null);
  }

  #write() {
    this.area.value = JSON.stringify(this.#questions, null, 2);
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
  }

  #toggleJson() {
    if (this.area.hidden) {
      this.area.dataset.json = "1";
      this.#showJson(true);
    } else {
      delete this.area.dataset.json;
      this.#read();
    }
  }

  #showJson(shown) {
    this.area.hidden = !shown;
    this.list.hidden = shown;
    this.foot.firstChild.hidden = shown;
    this.json.textContent = shown ? _("Edit as a list") : _("Edit as JSON");
  }

  // -- changes ------------------------------------------------------------------------------------------------------

  #add() {
    const id = newQuestionId();
    this.#questions.push({ id, type: "text", label: "", required: false });
    this.#opened = id;
    this.#changed();
    this.list.lastElementChild.querySelector("input")?.focus();
  }

  #remove(index) {
    const [gone] = this.#questions.splice(index, 1);
    this.#changed();
    this.announcer.textContent = _("Removed: %(name)s", { name: questionName(gone) });
    const next = this.list.children[Math.min(index, this.list.children.length - 1)];
    (next?.querySelector(".opener") ?? this.foot.firstChild).focus();
  }

  #move(from, to) {
    if (to < 0 || to >= this.#questions.length || from === to) return;
    const [question] = this.#questions.splice(from, 1);
    this.#questions.splice(to, 0, question);
    this.#changed();
    const values = { name: questionName(question), place: to + 1 };
    this.announcer.textContent = _("%(name)s is now question %(place)s", values);
    this.list.children[to].querySelector(".grip").focus();
  }

  #set(question, name, value) {
    if (value === undefined) delete question[name];
    else question[name] = value;
    this.#write();
  }

  #changed() {
    this.#write();
    this.#draw();
  }

  // -- drawing ------------------------------------------------------------------------------------------------------

  /** Draws the list. A `kept` item is not moved, because that would end its focus; its question may have changed. */
  #draw(kept = null) {
    const place = kept ? this.#questions.findIndex((question) => question.id === kept.dataset.id) : -1;
    const items = this.#questions.map((question, index) => (index === place ? kept : this.#item(question)));
    if (place < 0) return this.list.replaceChildren(...items);
    for (const old of [...this.list.children]) if (old !== kept) old.remove();
    kept.before(...items.slice(0, place));
    kept.after(...items.slice(place + 1));
    this.#refreshers.get(kept)(this.#questions[place]);
  }

  /** An item refers to its question through `at`: a change by others replaces the question of an item that stays. */
  #item(question) {
    const at = { question };
    const item = make("div", "question");
    item.dataset.id = question.id;
    const isOpen = this.#opened === question.id;
    item.classList.toggle("open", isOpen);
    const opener = make("button", "opener");
    opener.type = "button";
    opener.setAttribute("aria-expanded", String(isOpen));
    const [name, badge, must] = [make("span"), make("span", "badge"), make("span", "must", "*")];
    opener.append(name, badge, must);
    opener.addEventListener("click", () => {
      const index = this.#questions.indexOf(at.question);
      this.#opened = isOpen ? null : at.question.id;
      this.#draw();
      this.list.children[index].querySelector(".opener").focus();
    });
    const grip = tool("grip", "⠿");
    grip.draggable = true;
    this.#bindMoves(item, grip, at);
    const remove = tool("tool danger", "✕");
    remove.addEventListener("click", () => this.#remove(this.#questions.indexOf(at.question)));
    const head = make("div", "question-head");
    head.append(grip, opener, remove);
    item.append(head);
    const showHead = () => {
      name.textContent = questionName(at.question);
      badge.textContent = typeName(at.question.type);
      must.hidden = !at.question.required;
      describe(grip, _("Move %(name)s: drag, or use the arrow keys", { name: questionName(at.question) }));
      describe(remove, _("Remove %(name)s", { name: questionName(at.question) }));
    };
    const body = isOpen ? new QuestionBody(at, (...change) => this.#set(at.question, ...change), showHead) : null;
    if (body) item.append(body.element);
    const show = () => {
      showHead();
      body?.show(at.question);
    };
    this.#refreshers.set(item, (now) => {
      at.question = now;
      show();
    });
    show();
    return item;
  }

  #bindMoves(item, grip, at) {
    const place = () => this.#questions.indexOf(at.question);
    grip.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.#move(place(), place() + step);
    });
    grip.addEventListener("dragstart", (event) => {
      this.#dragged = place();
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", String(place()));
      event.dataTransfer.setDragImage(item, 12, 12);
      item.classList.add("dragged");
    });
    grip.addEventListener("dragend", () => {
      this.#dragged = null;
      item.classList.remove("dragged");
    });
    item.addEventListener("dragover", (event) => {
      if (this.#dragged === null) return;
      event.preventDefault();
      item.classList.add("over");
    });
    item.addEventListener("dragleave", () => item.classList.remove("over"));
    item.addEventListener("drop", (event) => {
      if (this.#dragged === null) return;
      event.preventDefault();
      item.classList.remove("over");
      this.#move(this.#dragged, place());
    });
  }
}

/** The inputs of the question in `at`. `set(name, value)` changes a property; `changed` is called after each change. */
class QuestionBody {
  constructor(at, set, changed) {
    this.element = make("div", "question-body");
    this.label = input("text", (text) => set("label", text));
    this.type = document.createElement("select");
    this.help = input("text", (text) => set("help", text || undefined));
    this.page = input("text", (text) => {
      const digits = text.replace(/\D/g, ""); // an input of type number could not keep the selection in a merge
      if (digits !== text) this.page.value = digits;
      set("page", Number(digits) || undefined);
    });
    this.page.inputMode = "numeric";
    this.required = document.createElement("input");
    this.required.type = "checkbox";
    this.options = document.createElement("textarea");
    this.type.addEventListener("change", () => {
      set("type", this.type.value);
      this.#showOptions(at.question);
    });
    this.required.addEventListener("change", () => set("required", this.required.checked));
    this.options.addEventListener("input", () => set("options", optionsIn(this.options.value)));
    for (const name of ["input", "change"]) this.element.addEventListener(name, changed);
    const check = make("label", "check");
    check.append(this.required, _("An answer is required"));
    this.optionsLabel = labelled("", this.options);
    this.optionsLabel.classList.add("full");
    this.element.append(labelled(_("Question"), this.label), labelled(_("Type"), this.type));
    this.element.append(labelled(_("Help"), this.help), labelled(_("Page"), this.page), this.optionsLabel, check);
  }

  /** Shows a question; inputs that already show it are left alone. */
  show(question) {
    putText(this.label, question.label ?? "");
    const types = new Set([...Object.keys(TYPES), question.type]);
    if (this.type.length !== types.size) {
      this.type.replaceChildren(...[...types].map((type) => new Option(typeName(type), type)));
    }
    this.type.value = question.type;
    putText(this.help, question.help ?? "");
    putText(this.page, String(question.page ?? ""));
    this.required.checked = Boolean(question.required);
    this.#showOptions(question);
  }

  /** Plain-text options, one per line; structured options are edited as JSON only. */
  #showOptions({ type, options = [] }) {
    const plain = options.every((option) => typeof option === "string");
    const text = options.map((option) => (typeof option === "string" ? option : (option.label ?? option.value ?? "")));
    this.optionsLabel.hidden = !WITH_OPTIONS.has(type) && !options.length;
    this.optionsLabel.firstChild.data = plain ? _("Options, one per line") : _("Options (edit them as JSON)");
    this.options.rows = Math.min(8, Math.max(3, options.length));
    this.options.readOnly = !plain;
    if (optionsIn(this.options.value).join("\n") !== text.join("\n")) putText(this.options, text.join("\n"));
  }
}

function optionsIn(text) {
  return text.split("\n").map((line) => line.trim()).filter(Boolean);
}

function tool(className, sign) {
  const element = make("button", className, sign);
  element.type = "button";
  return element;
}

function describe(element, text) {
  element.setAttribute("aria-label", text);
  element.title = text;
}

function input(type, onText) {
  const element = document.createElement("input");
  element.type = type;
  element.addEventListener("input", () => onText(element.value));
  return element;
}

function labelled(text, field) {
  const element = make("label");
  element.append(document.createTextNode(text), field);
  return element;
}
