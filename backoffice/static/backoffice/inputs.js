/** Inputs of a record: their value, the value of the server (their default) and the value of a queued edit. */
import { same as sameValue } from "./merge/values.js";
import { moved, replacements } from "./text_edits.js";
import { hasText, rebase } from "./typing_history.js";

const queued = new WeakMap(); // input -> {value, version} of a queued edit that the page's version does not contain

export function valueOf(field) {
  return field.type === "checkbox" ? field.checked : field.value;
}

export function defaultOf(field) {
  if (field.type === "checkbox") return field.defaultChecked;
  if (field instanceof HTMLSelectElement) return [...field.options].find((option) => option.defaultSelected)?.value ?? "";
  return field.defaultValue;
}

/** The value that its author sees as saved: that of a queued edit, else that of the server. */
export function seenOf(field) {
  return queued.has(field) ? queued.get(field).value : defaultOf(field);
}

/** `version` is the one in which the edit was saved; it is infinite while the edit waits. */
export function setQueued(field, value, version = Infinity) {
  if (value === undefined) queued.delete(field);
  else queued.set(field, { value, version });
}

export function isQueued(field) {
  return queued.has(field);
}

/** Whether it shows a queued edit that a version of the record does not contain. */
export function isWaiting(field, version) {
  return queued.has(field) && queued.get(field).version > version;
}

/** Whether it has typing that is neither saved nor queued. */
export function isUnsaved(field) {
  return isTyped(field) && !equal(field, normal(valueOf(field)), normal(seenOf(field)));
}

function isTyped(field) {
  return Boolean(field.name) && !field.disabled && field.type !== "hidden";
}

function normal(value) {
  return typeof value === "string" ? value.replaceAll("\r\n", "\n") : value;
}

export function same(field, value) {
  return equal(field, normal(valueOf(field)), ofServer(field, value));
}

/** Whether a value of the server is the one that its author sees as saved. */
export function isSeen(field, value) {
  return equal(field, normal(seenOf(field)), ofServer(field, value));
}

/** Whether a value of the server is the one that the page had before. */
export function isDefault(field, value) {
  return equal(field, normal(defaultOf(field)), ofServer(field, value));
}

/** Another layout of the same JSON is the same value. */
function equal(field, a, b) {
  return a === b || (field.dataset.kind === "json" && sameJson(a, b));
}

function ofServer(field, value) {
  return field.type === "checkbox" ? Boolean(value) : normal(String(value ?? ""));
}

export function put(field, value) {
  if (field.type === "checkbox") field.checked = Boolean(value);
  else putText(field, String(value ?? ""));
  field.dispatchEvent(new Event("change", { bubbles: true }));
  field.dispatchEvent(new CustomEvent("brought-in"));
}

/** Sets a text by the smallest replacements: the selection stays at its words, and typing can still be undone. */
export function putText(field, text) {
  if (field.hidden || !hasText(field)) {
    if (field.value !== text) field.value = text;
    return;
  }
  const changes = replacements(field.value, normal(text)).reverse(); // from the end: earlier positions stay valid
  if (!changes.length) return;
  let { selectionStart: start, selectionEnd: end } = field;
  const { selectionDirection, scrollTop } = field;
  for (const change of changes) {
    const { at, removed, inserted } = change;
    field.setRangeText(inserted, at, at + removed.length);
    [start, end] = [moved(start, change), moved(end, change)];
    rebase(field, change);
  }
  if (document.activeElement !== field) return; // some browsers move the focus to a selection
  field.setSelectionRange(start, end, selectionDirection);
  field.scrollTop = scrollTop;
}

export function setDefault(field, value) {
  if (field.type === "checkbox") field.defaultChecked = Boolean(value);
  else if (field instanceof HTMLSelectElement) {
    const chosen = field.value;
    for (const option of field.options) option.defaultSelected = option.value === String(value ?? "");
    field.value = chosen; // a new default selects an option that was never chosen
  } else if (field.defaultValue !== String(value ?? "")) field.defaultValue = String(value ?? "");
}

/** Whether two texts are the same JSON; false for invalid JSON, and for numbers that could differ unnoticed. */
export function sameJson(a, b) {
  if (losesNumbers(a) || losesNumbers(b)) return false;
  try {
    return sameValue(JSON.parse(a), JSON.parse(b));
  } catch {
    return false;
  }
}

const STRINGS = /"[^"\\]*(?:\\.[^"\\]*)*"/gs;

/** Whether a JSON text has numbers that JavaScript would change by parsing them: 1.0, 1e3, more than 15 digits. */
export function losesNumbers(text) {
  return /\d[.eE]|\d{16}/.test(text.replace(STRINGS, '""'));
}
