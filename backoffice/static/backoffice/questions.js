import { _ } from "./words.js";

/** Labels of the known question types; an unknown type is shown by its name. */
export const TYPES = {
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
const RANDOM_ID = /^q-[0-9a-f]{16}$/;

export function typeName(type) {
  return TYPES[type]?.() ?? String(type ?? "?");
}

/** An id that nobody else gives to a question: two people may add questions at the same time. */
export function newQuestionId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return `q-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Its text; without one its id, if a person or a program chose it. */
export function questionName({ id, label }) {
  return label || (RANDOM_ID.test(id) ? _("Question without text") : String(id));
}
