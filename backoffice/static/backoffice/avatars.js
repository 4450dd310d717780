import { _, ngettext } from "./words.js";

const MAX_AVATARS = 4;

/** Avatars with initials; `presenceText` is the same as text, for screen readers and narrow pages. */
export function avatars(people) {
  const element = document.createElement("span");
  element.className = "here-people";
  element.setAttribute("aria-hidden", "true");
  element.append(...people.slice(0, MAX_AVATARS).map(avatar));
  return element;
}

export function presenceText(people) {
  if (!people.length) return "";
  const first = people[0];
  const values = { name: first.name };
  if (people.length > 1) {
    return ngettext("%(name)s and %(n)s more are here", "%(name)s and %(n)s more are here", people.length - 1, values);
  }
  const words = {
    editing: _("%(name)s is editing", values),
    viewing: _("%(name)s is viewing", values),
    idle: _("%(name)s is away", values),
  };
  return words[first.state];
}

function avatar(person) {
  const element = document.createElement("span");
  element.className = `avatar hue-${[...person.name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 8}`;
  if (person.state === "editing") element.classList.add("editing");
  element.textContent = person.name.slice(0, 1).toUpperCase();
  element.title = person.name;
  return element;
}
