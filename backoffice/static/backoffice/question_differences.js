import { make } from "./dom.js";
import { mergeOf } from "./field_merge.js";
import { steps } from "./merge.js";
import { questionName, typeName } from "./questions.js";
import { valueOf } from "./inputs.js";
import { _ } from "./words.js";

const PROPERTIES = {
  label: () => _("Question"),
  type: () => _("Type"),
  help: () => _("Help"),
  page: () => _("Page"),
  options: () => _("Options"),
  required: () => _("An answer is required"),
};

/** A list of the questions that two people changed differently, with both values; null for a field without questions.
 *  Questions that cannot be compared, such as half-typed JSON, give the names of theirs. */
export function questionDifferences(field, theirs, rules) {
  if (!field.matches("[data-fields-editor]")) return null;
  const list = make("ul", "question-differences");
  const merge = mergeOf(field, theirs, rules);
  if (!merge) {
    list.append(...JSON.parse(theirs || "[]").map((question) => make("li", "", questionName(question))));
    return list;
  }
  const sides = [JSON.parse(theirs || "[]"), JSON.parse(valueOf(field))]; // named as their editor knows them
  const names = new Map(sides.flat().map((question) => [String(question.id), questionName(question)]));
  list.append(...merge.conflicts.map((conflict) => difference(conflict, names)));
  return list;
}

function difference({ path, theirs, mine }, names) {
  const [, id, property] = steps(path);
  const item = make("li");
  const what = id === undefined ? _("Order of the questions") : (names.get(id) ?? id);
  const where = property === undefined ? what : `${what} · ${PROPERTIES[property]?.() ?? property}`;
  const value = (title, of) => side(title, shown(of, property, names));
  item.append(make("strong", "", where), value(_("Theirs"), theirs), value(_("Yours"), mine));
  return item;
}

function side(title, value) {
  const element = make("span", "question-side");
  element.append(make("span", "quiet", title), " ", make("span", "", value));
  return element;
}

function shown(value, property, names) {
  if (value === undefined) return property === undefined ? _("removed") : _("empty");
  if (typeof value === "boolean") return value ? _("yes") : _("no");
  if (property === "type") return typeName(value);
  if (Array.isArray(value)) return value.map((one) => names.get(one) ?? shown(one, "", names)).join(", ");
  if (typeof value === "object" && value !== null) return questionName({ id: "", ...value }) || JSON.stringify(value);
  return String(value);
}
