import { faces, sentence } from "./here.js";
import { live } from "./live.js";

/**
 * Who works on the same kind of records. The feed `users.here` carries presence alone: its field is the key of the
 * record that somebody has open, or nothing for who looks at the list.
 */
export class Desk {
  #people = [];

  constructor(element) {
    this.element = element;
    this.head = element.querySelector("[data-here]");
  }

  start() {
    const presence = live().presence(this.element.dataset.desk);
    presence.set("viewing");
    window.addEventListener("pagehide", () => presence.set("gone"), { capture: true }); // before the connection ends
    presence.onChange((people) => {
      this.#people = people.filter((person) => `staff:${person.id}` !== this.element.dataset.me);
      this.draw();
    });
  }

  /** In the head who looks at the list, at each row who has its record open; again whenever rows were redrawn. */
  draw() {
    const atRows = byField(this.#people);
    const atList = atRows.get("") ?? [];
    this.head.hidden = !atList.length;
    this.head.replaceChildren(faces(atList), document.createTextNode(sentence(atList)));
    for (const old of this.element.querySelectorAll("[data-at-row]")) old.remove();
    for (const [key, people] of atRows) if (key) this.#drawAt(key, people);
  }

  #drawAt(key, people) {
    const place = this.element.querySelector(`tr[data-id="${CSS.escape(key)}"] .main-link`);
    if (!place) return;
    const sign = document.createElement("span");
    sign.className = "here at-row";
    sign.dataset.atRow = "";
    const words = document.createElement("span");
    words.className = "visually-hidden";
    words.textContent = sentence(people);
    sign.title = words.textContent;
    sign.append(faces(people), words);
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
