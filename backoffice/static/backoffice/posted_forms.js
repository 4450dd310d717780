/** Forms of pages with typed text, apart from those of records: sent by script, so that a failure keeps the text. */
import { fetchDocument } from "./live.js";
import { counterpart, leave, post, reasonToStay } from "./posting.js";
import { adoptToasts, toast } from "./toasts.js";
import { _ } from "./words.js";

const NO_TEXT = "[type=hidden], [type=checkbox], [type=radio], [type=submit], [type=button], [type=file]";
const TEXT = `form[method=post] :is(textarea, input:not(${NO_TEXT}))`;
const GUARDED = "[data-record] [data-edit], [data-drafted]"; // forms that keep their text themselves
const WRONG = ":is(.field.wrong, .errors) :is(input:not([type=hidden]), select, textarea)";

const sending = new WeakSet();
const attempts = new WeakMap(); // form -> {input, id} of its latest attempt
let leaving = false;

/** Handles the forms of a signed-in person's page, apart from those that handle themselves, and from downloads.
 *  Without encryption browsers make no ids for the commands; there the forms are sent as without scripts. */
export function bindForms(root) {
  if (!root.querySelector("[data-person]") || !globalThis.isSecureContext) return;
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

/** 1 send the input; nothing more can be typed  2 done: leave, or stay for the text of another form  3 messages, or
 *  another page: show it  4 else the text stays, to be sent again */
async function send(form, button) {
  const body = bodyOf(form, button);
  const action = button?.getAttribute("formaction") ?? form.getAttribute("action") ?? "";
  const focused = document.activeElement;
  sending.add(form);
  form.inert = true;
  let answer = await post(new URL(action, location.href), body, form); // 1
  const next = answer.location && new URL(answer.location, location.href);
  if (next) {
    const stays = next.pathname === location.pathname && othersTyping(form);
    const fresh = stays ? await renewed(form, next) : null;
    if (!fresh) return go(form, next); // 2
    attempts.delete(form); // the same input again is another command
    answer = fresh;
  }
  stay(form, form.contains(focused) ? focused : null);
  if (answer.page) {
    form.toggleAttribute("data-unsaved", !next);
    show(form, answer); // 3
  } else toast(answer.refusal ?? reasonToStay(answer), "error"); // 4
  return undefined;
}

function othersTyping(form) {
  return [...document.querySelectorAll(TEXT)].some((field) => field.form !== form && isUnsaved(field));
}

/** The page as it is now, if it has the form too; null if not, or without an answer. */
async function renewed(form, address) {
  const { page } = await fetchDocument(address).catch(() => ({}));
  const theirs = page && counterpart(page, form);
  return theirs ? { page, theirs } : null;
}

function go(form, address) {
  leaving = !othersTyping(form);
  leave(form, address, () => {
    stay(form);
    if (othersTyping(form)) toast(_("Saved. Other text on this page is not saved yet."), "info");
  });
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
  for (const part of document.querySelectorAll("[data-fresh]")) {
    const now = page.querySelector(`[data-fresh=${part.dataset.fresh}]`);
    if (now) part.replaceChildren(...now.childNodes);
  }
  adoptToasts(page);
  place.dispatchEvent(new CustomEvent("replaced", { bubbles: true }));
  if (!focusError(place)) place.querySelector("[role=alert], .errornote")?.scrollIntoView({ block: "nearest" });
}
