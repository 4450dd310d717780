/** Inputs of a record: their value, the value of the server (their default) and the value of a queued edit. */

const queued = new WeakMap(); // input -> the value of a queued edit, not yet sent to the server

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
  return queued.has(field) ? queued.get(field) : defaultOf(field);
}

export function setQueued(field, value) {
  if (value === undefined) queued.delete(field);
  else queued.set(field, value);
}

export function isQueued(field) {
  return queued.has(field);
}

/** Whether it differs from the value of the server; updates must not overwrite it then. */
export function isTouched(field) {
  return isTyped(field) && normal(valueOf(field)) !== normal(defaultOf(field));
}

/** Whether it has typing that is neither saved nor queued. */
export function isUnsaved(field) {
  return isTyped(field) && normal(valueOf(field)) !== normal(seenOf(field));
}

function isTyped(field) {
  return Boolean(field.name) && !field.disabled && field.type !== "hidden";
}

function normal(value) {
  return typeof value === "string" ? value.replaceAll("\r\n", "\n") : value;
}

export function same(field, value) {
  return normal(valueOf(field)) === normal(field.type === "checkbox" ? Boolean(value) : String(value ?? ""));
}

export function put(field, value) {
  if (field.type === "checkbox") field.checked = Boolean(value);
  else field.value = String(value ?? "");
  field.dispatchEvent(new Event("change", { bubbles: true }));
  field.dispatchEvent(new CustomEvent("brought-in"));
}

export function setDefault(field, value) {
  if (field.type === "checkbox") field.defaultChecked = Boolean(value);
  else if (field instanceof HTMLSelectElement) {
    for (const option of field.options) option.defaultSelected = option.value === String(value ?? "");
  } else field.defaultValue = String(value ?? "");
}

/** Whether a JSON text has numbers that JavaScript would change by parsing them: 1.0, 1e3, more than 15 digits. */
export function losesNumbers(text) {
  return /\d[.eE]|\d{16}/.test(text);
}
