/** The forms of pages with typed text, apart from those of records: sent by script, so that a failure keeps the text. */
import { leave, post, reasonToStay } from "./posting.js";
import { adoptToasts, toast } from "./toasts.js";

const NO_TEXT = "[type=hidden], [type=checkbox], [type=radio], [type=submit], [type=button], [type=file]";
const TEXT = `form[method=post] :is(textarea, input:not(${NO_TEXT}))`;
const GUARDED = "[data-record] [data-edit], [data-drafted]"; // forms that keep their text themselves
const WRONG = ":is(.field.wrong, .errors) :is(input:not([type=hidden]), select, textarea)";

const sending = new WeakSet();
const attempts = new WeakMap(); // form -> {input, id} of its latest attempt
let leaving = false;

/** Handles the forms of a signed-in person's page, apart from those that handle themselves, and from downloads. */
export function bindForms(root) {
  if (!root.querySelector("[data-person]")) return;
  root.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.getAttribute("method")?.toLowerCase() !== "post") return;
    if (form.matches("[data-download]") || !root.querySelector(TEXT)) return;
    event.preventDefault();
    if (!sending.has(form)) send(form, event.submitter);
  });
  window.addEventListener("beforeunload", (event) => {
    if (!leaving && [...root.querySelectorAll(TEXT)].some(isUnsaved)) event.preventDefault();
  });
}

/** Whether a text exists on this page only; one that the server returned with messages is its field's default. */
function isUnsaved(field) {
  if (field.closest(GUARDED)) return false;
  return field.value !== field.defaultValue || ("unsaved" in field.form.dataset && field.value !== "");
}

/** Moves the focus to the first field with an error; false without one. */
export function focusError(root) {
  const field = root.querySelector(WRONG);
  field?.focus();
  return Boolean(field);
}

/** 1 send the input; nothing more can be typed  2 done: leave  3 messages, or another page: show it
 *  4 else the text stays, to be sent again */
async function send(form, button) {
  const body = bodyOf(form, button);
  const action = button?.getAttribute("formaction") ?? form.getAttribute("action") ?? "";
  const focused = document.activeElement;
  sending.add(form);
  form.inert = true;
  const answer = await post(new URL(action, location.href), body, form); // 1
  leaving = Boolean(answer.location);
  if (leaving) {
    leave(form, answer.location, () => stay(form)); // 2
    return;
  }
  form.dataset.unsaved = "";
  stay(form, form.contains(focused) ? focused : null);
  if (answer.page) show(form, answer); // 3
  else toast(answer.refusal ?? reasonToStay(answer), "error"); // 4
}

function stay(form, focused) {
  sending.delete(form);
  leaving = false;
  form.inert = false;
  focused?.focus();
  form.dispatchEvent(new CustomEvent("stayed", { bubbles: true }));
}

/** The input of a form. The same input has the same id each time, so that it is saved once. */
function bodyOf(form, button) {
  const body = new FormData(form);
  if (button?.name) body.append(button.name, button.value);
  if (body.has("command_id")) return body;
  const input = JSON.stringify([...body]);
  if (attempts.get(form)?.input !== input) attempts.set(form, { input, id: crypto.randomUUID() });
  body.set("command_id", attempts.get(form).id);
  return body;
}

/** Replaces the form by the one of the answer, which contains the input and the messages; else the whole content. */
function show(form, { page, theirs }) {
  const place = theirs ? form : document.getElementById("content");
  place.replaceChildren(...(theirs ?? page.getElementById("content")).childNodes);
  if (!theirs) document.title = page.title;
  adoptToasts(page);
  place.dispatchEvent(new CustomEvent("replaced", { bubbles: true }));
  if (!focusError(place)) place.querySelector("[role=alert], .errornote")?.scrollIntoView({ block: "nearest" });
}
