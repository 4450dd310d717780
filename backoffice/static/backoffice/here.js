import { _ } from "./words.js";

const FACES = 4;

/** People as circles with initials, and the same in words: what a screen reader says and a narrow eye reads. */
export function faces(people) {
  const element = document.createElement("span");
  element.className = "here-people";
  element.setAttribute("aria-hidden", "true");
  element.append(...people.slice(0, FACES).map(face));
  return element;
}

export function sentence(people) {
  if (!people.length) return "";
  const first = people[0];
  const values = { name: first.name, n: people.length - 1 };
  if (people.length > 1) return _("%(name)s and %(n)s more are here", values);
  const words = {
    editing: _("%(name)s is editing", values),
    viewing: _("%(name)s is viewing", values),
    idle: _("%(name)s is away", values),
  };
  return words[first.state];
}

function face(person) {
  const element = document.createElement("span");
  element.className = `avatar hue-${[...person.name].reduce((sum, letter) => sum + letter.codePointAt(0), 0) % 8}`;
  if (person.state === "editing") element.classList.add("editing");
  element.textContent = person.name.slice(0, 1).toUpperCase();
  element.title = person.name;
  return element;
}
