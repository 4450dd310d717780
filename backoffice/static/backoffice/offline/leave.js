import { forget } from "./shell.js";

/** The page after logging out names who left; what this browser kept for them goes. */
export async function open(element) {
  const person = Number(element.dataset.left);
  if (person) await forget(person);
  element.dataset.forgotten = "";
}
