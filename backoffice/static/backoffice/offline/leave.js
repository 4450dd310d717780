import { forget } from "./shell.js";

/** The page after signing out names the person; deletes everything this browser stored for them. */
export async function open(element) {
  const person = Number(element.dataset.signedOutPerson);
  if (person) await forget(person);
  element.dataset.forgotten = "";
}
