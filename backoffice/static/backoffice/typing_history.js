/** Undo and redo of one's own typing in text fields, across changes by others.
 *
 *  The browser's own history is lost, or points at the wrong text, once a script changes a field. Undoing must also
 *  never undo the change of another person: it would be saved as if its author had reverted it. Hence each field has a
 *  list of its author's replacements, whose positions follow every change from outside. */
import { typedReplacement } from "./text_edits.js";

const MAX_STEPS = 500;
const histories = new WeakMap(); // field -> {text, done: [replacement], undone: [replacement]}

/** Records typing below `root`, and handles its undo and redo: by key and by menu. */
export function recordTyping(root) {
  root.addEventListener("focusin", ({ target }) => hasText(target) && begin(target));
  root.addEventListener("input", ({ target, isComposing }) => hasText(target) && !isComposing && note(target));
  root.addEventListener("compositionend", ({ target }) => hasText(target) && note(target)); // one step
  root.addEventListener("keydown", (event) => {
    const { key, shiftKey, ctrlKey, metaKey, altKey, isComposing, target } = event;
    if (!(ctrlKey || metaKey) || altKey || isComposing || !hasText(target)) return;
    const letter = key.toLowerCase();
    if (letter === "z") handle(event, shiftKey ? "redo" : "undo");
    if (letter === "y" && !shiftKey) handle(event, "redo");
  });
  root.addEventListener("beforeinput", (event) => {
    if (!hasText(event.target)) return;
    if (event.inputType === "historyUndo") handle(event, "undo");
    if (event.inputType === "historyRedo") handle(event, "redo");
  });
}

/** Whether scripts can replace a part of its text and keep the selection. (An input of type email has no selection.) */
export function hasText(field) {
  return field.matches?.("textarea, input") && !field.readOnly && field.selectionStart !== null;
}

/** Call after a change from outside: the recorded positions move, and steps whose text it replaced are forgotten. */
export function rebase(field, change) {
  const history = histories.get(field);
  if (!history) return;
  history.text = field.value;
  history.undone = [];
  let { at } = change;
  for (let index = history.done.length - 1; index >= 0; index--) {
    const step = history.done[index];
    if (at + change.removed.length <= step.at) step.at += change.inserted.length - change.removed.length;
    else if (at >= step.at + step.inserted.length) at += step.removed.length - step.inserted.length;
    else return void history.done.splice(0, index + 1);
  }
}

/** Forgets the steps of a field that a script has set as a whole. */
function begin(field) {
  if (histories.get(field)?.text !== field.value) histories.set(field, { text: field.value, done: [], undone: [] });
}

function historyOf(field) {
  if (!histories.has(field)) begin(field);
  return histories.get(field);
}

function note(field) {
  const history = historyOf(field);
  const step = typedReplacement(history.text, field.value, field.selectionEnd);
  if (!step) return;
  history.text = field.value;
  history.undone = [];
  const last = history.done.at(-1);
  if (last && continues(last, step)) last.inserted += step.inserted;
  else history.done.push(step);
  if (history.done.length > MAX_STEPS) history.done.shift();
}

/** Whether a step is one more letter of the same word: undo removes words, not letters. */
function continues(last, step) {
  const follows = !step.removed && !last.removed && step.at === last.at + last.inserted.length;
  const endsWord = /\S\s+$/.test(last.inserted) && /\S/.test(step.inserted);
  return follows && step.inserted.length === 1 && !endsWord;
}

function handle(event, way) {
  const field = event.target;
  const history = historyOf(field);
  event.preventDefault();
  const step = (way === "undo" ? history.done : history.undone).pop();
  if (!step) return;
  const [old, next] = way === "undo" ? [step.inserted, step.removed] : [step.removed, step.inserted];
  if (field.value.slice(step.at, step.at + old.length) !== old) return;
  field.setRangeText(next, step.at, step.at + old.length, "end");
  history.text = field.value;
  (way === "undo" ? history.undone : history.done).push(step);
  const inputType = way === "undo" ? "historyUndo" : "historyRedo";
  field.dispatchEvent(new InputEvent("input", { bubbles: true, inputType }));
}
