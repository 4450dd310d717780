import { avatars, presenceText } from "./avatars.js";
import { live } from "./live.js";

/**
 * Shows who works on the records of a list. The topic `users.here` carries presence only: its field is the key of the
 * record that a person has open, or empty for the list itself.
 */
export class ListPresence {
  #people = [];

  constructor(element) {
    this.element = element;
    this.head = element.querySelector("[data-here]");
  }

  start() {
    const presence = live().presence(this.element.dataset.listPresence);
    presence.set("viewing");
    window.addEventListener("pagehide", () => presence.set("gone"), { capture: true }); // before the connection ends
    presence.onChange((people) => {
      this.#people = people.filter((person) => `staff:${person.id}` !== this.element.dataset.me);
      this.draw();
    });
  }

  /** Avatars in the header for the list, and at each row for its record; call again after rows were replaced. */
  draw() {
    const byKey = byField(this.#people);
    const onList = byKey.get("") ?? [];
    this.head.hidden = !onList.length;
    this.head.replaceChildren(avatars(onList), document.createTextNode(presenceText(onList)));
    for (const old of this.element.querySelectorAll("[data-at-row]")) old.remove();
    for (const [key, people] of byKey) if (key) this.#drawAt(key, people);
  }

  #drawAt(key, people) {
    const place = this.element.querySelector(`tr[data-id="${CSS.escape(key)}"] .main-link`);
    if (!place) return;
    const sign = document.createElement("span");
    sign.className = "here at-row";
    sign.dataset.atRow = "";
    const words = document.createElement("span");
    words.className = "visually-hidden";
    words.textContent = presenceText(people);
    sign.title = words.textContent;
    sign.append(avatars(people), words);
    place.append(sign);
  }
}

function byField(people) {
  const found = new Map();
  for (const person of people) {
    const field = person.field ?? "";
    if (!found.has(field)) found.set(field, []);
    found.get(field).push(person);
  }
  return found;
}
