/** Inputs of a record: what they hold, what the server had (their default), and what waits to be sent of them. */

const queued = new WeakMap(); // input -> the value of an edit that waits: typed, kept, not yet with the server

export function valueOf(field) {
  return field.type === "checkbox" ? field.checked : field.value;
}

export function defaultOf(field) {
  if (field.type === "checkbox") return field.defaultChecked;
  if (field instanceof HTMLSelectElement) return [...field.options].find((option) => option.defaultSelected)?.value ?? "";
  return field.defaultValue;
}

/** What its author takes it to be: the server's value, and over it their own edits that wait. */
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

/** Is it other than what the server had? News must not overwrite it then. */
export function isTouched(field) {
  return isTyped(field) && normal(valueOf(field)) !== normal(defaultOf(field));
}

/** Was it typed and not saved, not even to wait? */
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

/** Has a JSON text numbers that this language would change by reading them: 1.0, 1e3, more than 15 digits? */
export function losesNumbers(text) {
  return /\d[.eE]|\d{16}/.test(text);
}
