import { make } from "./dom.js";
import { _ } from "./words.js";

/** Labels of the known question types; an unknown type is shown by its name. */
const TYPES = {
  text: () => _("Short text"),
  long_text: () => _("Long text"),
  email: () => _("Email address"),
  phone: () => _("Phone number"),
  url: () => _("Web address"),
  integer: () => _("Whole number"),
  number: () => _("Number"),
  date: () => _("Date"),
  datetime: () => _("Date and time"),
  boolean: () => _("Yes or no"),
  single_choice: () => _("One choice"),
  multiple_choice: () => _("Several choices"),
  ranking: () => _("Ranking"),
  rating: () => _("Rating"),
  matrix: () => _("Matrix"),
};
const PLACES = "button, input, select, textarea";
const WITH_OPTIONS = new Set(["single_choice", "multiple_choice", "ranking", "matrix"]);

/** Edits the questions of a form as a list. The textarea below it stays the source of truth: it is submitted. */
export function open() {
  for (const area of document.querySelectorAll("textarea[data-fields-editor]")) new FieldsEditor(area).start();
}

class FieldsEditor {
  #questions = [];
  #opened = null;
  #dragged = null;

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
    this.area.addEventListener("brought-in", () => this.#keepingFocus(() => this.#read()));
    this.area.addEventListener("change", () => this.area.hidden || this.#read());
    this.#read();
  }

  #read() {
    try {
      const found = JSON.parse(this.area.value || "[]");
      if (!Array.isArray(found) || found.some((one) => one === null || typeof one !== "object")) throw new TypeError();
      this.#questions = found;
      if (!this.area.dataset.json) this.#showJson(false);
      this.#draw();
    } catch {
      this.#showJson(true); // invalid JSON is left to the person who typed it
    }
  }

  /** Runs `draw` and keeps focus and selection in the question that is being edited. */
  #keepingFocus(draw) {
    const typing = document.activeElement;
    const item = this.list.contains(typing) ? typing.closest(".question") : null;
    const number = item ? [...item.querySelectorAll(PLACES)].indexOf(typing) : -1;
    const selection = [typing?.selectionStart, typing?.selectionEnd];
    draw();
    const again = [...this.list.children].find((each) => each.dataset.id === item?.dataset.id);
    const place = item && again?.querySelectorAll(PLACES)[number];
    if (!place) return;
    place.focus();
    if (Number.isInteger(selection[0])) place.setSelectionRange(...selection);
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
    const taken = new Set(this.#questions.map((question) => question.id));
    let number = this.#questions.length + 1;
    while (taken.has(`q${number}`)) number += 1;
    this.#questions.push({ id: `q${number}`, type: "text", label: "", required: false });
    this.#opened = `q${number}`;
    this.#changed();
    this.list.lastElementChild.querySelector("input")?.focus();
  }

  #remove(index) {
    const [gone] = this.#questions.splice(index, 1);
    this.#changed();
    this.announcer.textContent = _("Removed: %(name)s", { name: gone.label || gone.id });
    const next = this.list.children[Math.min(index, this.list.children.length - 1)];
    (next?.querySelector(".opener") ?? this.foot.firstChild).focus();
  }

  #move(from, to) {
    if (to < 0 || to >= this.#questions.length || from === to) return;
    const [question] = this.#questions.splice(from, 1);
    this.#questions.splice(to, 0, question);
    this.#changed();
    const values = { name: question.label || question.id, place: to + 1 };
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

  #draw() {
    this.list.replaceChildren(...this.#questions.map((question, index) => this.#item(question, index)));
  }

  #item(question, index) {
    const item = make("div", "question");
    item.dataset.id = question.id;
    const isOpen = this.#opened === question.id;
    item.classList.toggle("open", isOpen);
    const head = make("div", "question-head");
    const opener = make("button", "opener");
    opener.type = "button";
    opener.setAttribute("aria-expanded", String(isOpen));
    const name = make("span", "", question.label || question.id);
    opener.append(name, make("span", "badge", typeName(question.type)));
    if (question.required) opener.append(make("span", "must", "*"));
    opener.addEventListener("click", () => {
      this.#opened = isOpen ? null : question.id;
      this.#draw();
      this.list.children[index].querySelector(".opener").focus();
    });
    const label = question.label || question.id;
    const grip = tool("grip", _("Move %(name)s: drag, or use the arrow keys", { name: label }), "⠿");
    grip.className = "grip";
    grip.draggable = true;
    this.#bindMoves(item, grip, index);
    const remove = tool("tool danger", _("Remove %(name)s", { name: label }), "✕");
    remove.addEventListener("click", () => this.#remove(index));
    head.append(grip, opener, remove);
    item.append(head);
    if (isOpen) item.append(this.#body(question, name));
    return item;
  }

  #bindMoves(item, grip, index) {
    grip.addEventListener("keydown", (event) => {
      const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.#move(index, index + step);
    });
    grip.addEventListener("dragstart", (event) => {
      this.#dragged = index;
      event.dataTransfer.effectAllowed = "move";
      event.dataTransfer.setData("text/plain", String(index));
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
      this.#move(this.#dragged, index);
    });
  }

  #body(question, name) {
    const body = make("div", "question-body");
    const label = input(question.label ?? "");
    label.addEventListener("input", () => {
      this.#set(question, "label", label.value);
      name.textContent = label.value || question.id;
    });
    const kind = document.createElement("select");
    for (const type of new Set([...Object.keys(TYPES), question.type])) kind.add(new Option(typeName(type), type));
    kind.value = question.type;
    kind.addEventListener("change", () => {
      this.#set(question, "type", kind.value);
      this.#draw();
    });
    const help = input(question.help ?? "");
    help.addEventListener("input", () => this.#set(question, "help", help.value || undefined));
    const page = input(question.page ?? "", "number");
    page.min = "1";
    page.addEventListener("input", () => this.#set(question, "page", page.value ? Number(page.value) : undefined));
    const required = document.createElement("input");
    required.type = "checkbox";
    required.checked = Boolean(question.required);
    required.addEventListener("change", () => this.#set(question, "required", required.checked));
    const check = make("label", "check");
    check.append(required, _("An answer is required"));
    body.append(labelled(_("Question"), label), labelled(_("Type"), kind));
    body.append(labelled(_("Help"), help), labelled(_("Page"), page));
    if (WITH_OPTIONS.has(question.type) || question.options?.length) body.append(this.#options(question));
    body.append(check);
    return body;
  }

  /** Plain-text options, one per line; structured options are edited as JSON only. */
  #options(question) {
    const options = question.options ?? [];
    const plain = options.every((option) => typeof option === "string");
    const area = document.createElement("textarea");
    area.rows = Math.min(8, Math.max(3, options.length));
    const textOf = (option) => (typeof option === "string" ? option : (option.label ?? option.value ?? ""));
    area.value = options.map(textOf).join("\n");
    area.readOnly = !plain;
    area.addEventListener("input", () => {
      this.#set(question, "options", area.value.split("\n").map((line) => line.trim()).filter(Boolean));
    });
    const box = labelled(plain ? _("Options, one per line") : _("Options (edit them as JSON)"), area);
    box.classList.add("full");
    return box;
  }
}

function typeName(type) {
  return TYPES[type]?.() ?? String(type ?? "?");
}

function tool(className, label, sign) {
  const element = make("button", className, sign);
  element.type = "button";
  element.setAttribute("aria-label", label);
  element.title = label;
  return element;
}

function input(value, type = "text") {
  const element = document.createElement("input");
  element.type = type;
  element.value = value;
  return element;
}

function labelled(text, field) {
  const element = make("label", "", "");
  element.append(text, field);
  return element;
}
