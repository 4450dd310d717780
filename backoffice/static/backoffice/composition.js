/** Input methods: a script must not change a page's fields while one composes a character. */

let composing = null; // {field} while a composition is under way
const waiting = [];

/** Call once per page, before typing starts. */
export function watchCompositions() {
  document.addEventListener("compositionstart", ({ target }) => (composing = { field: target }), true);
  for (const name of ["compositionend", "focusout"]) document.addEventListener(name, ended, true);
}

/** Resolves once no composition is under way; the caller changes fields without waiting again. */
export async function noComposition() {
  while (composing?.field.isConnected) await new Promise((resolve) => waiting.push(resolve));
}

/** The text is in the field only after the browser's next events: some send `input` after `compositionend`. */
function ended({ target }) {
  const over = composing;
  if (target !== over?.field) return;
  setTimeout(() => {
    if (composing === over) composing = null; // else the next one has started
    waiting.splice(0).forEach((resolve) => resolve());
  });
}
