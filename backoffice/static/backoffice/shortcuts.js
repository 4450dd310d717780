import { read, write } from "./storage.js";

const STORED = "formease:keys";
const SEQUENCE_MS = 1200;

/** Single-key shortcuts, which can be switched off (WCAG 2.1.4), and Ctrl shortcuts, which always work. */
export function bindShortcuts(root) {
  const help = root.querySelector("[data-help-dialog]");
  const toggle = root.querySelector("[data-keys-toggle]");
  let startedAt = -Infinity; // when the first key of a sequence was pressed; not a timer, which a busy page delays
  if (toggle) {
    toggle.checked = shortcutsEnabled();
    toggle.addEventListener("change", () => write(STORED, toggle.checked ? "on" : "off"));
  }
  for (const button of root.querySelectorAll("[data-open-help]")) {
    button.hidden = false;
    button.addEventListener("click", () => help?.showModal());
  }
  root.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "s") {
      save(root, event);
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !shortcutsEnabled()) return;
    if (root.querySelector("dialog[open]")) return;
    const key = event.key;
    if (event.timeStamp - startedAt < SEQUENCE_MS) {
      startedAt = -Infinity;
      const link = root.querySelector(`[data-go="${CSS.escape(key)}"]`);
      if (link) {
        event.preventDefault();
        link.click();
      }
      return;
    }
    if (key === "g") {
      startedAt = event.timeStamp;
      return;
    }
    const action = actions(root, help)[key];
    if (action && action() !== false) event.preventDefault();
  });
}

function actions(root, help) {
  return {
    "/": () => focus(root.querySelector("[data-find]")) ?? root.querySelector("[data-open-search]")?.click(),
    "?": () => help?.showModal(),
    j: () => move(root, 1),
    k: () => move(root, -1),
    Enter: () => open(root),
    n: () => root.querySelector("[data-add]")?.click() ?? false,
    ".": () => root.querySelector("[data-news]:not([hidden]) [data-news-show]")?.click() ?? false,
  };
}

export function shortcutsEnabled() {
  return read(STORED) !== "off";
}

function isTyping(element) {
  return element.isContentEditable || element.matches?.("input:not([type=checkbox], [type=radio]), textarea, select");
}

function focus(field) {
  if (!field) return null;
  field.focus();
  field.select();
  return true;
}

function save(root, event) {
  const button = root.querySelector("form [data-save]");
  if (!button) return;
  event.preventDefault();
  button.form.requestSubmit(button);
}

/** Moves the row marker down or up and scrolls it into view. */
function move(root, step) {
  const rows = [...root.querySelectorAll("table.records tbody tr")];
  if (!rows.length) return false;
  const at = rows.findIndex((row) => row.classList.contains("at"));
  const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1);
  for (const row of rows) row.classList.toggle("at", row === rows[next]);
  rows[next].scrollIntoView({ block: "nearest" });
  rows[next].querySelector("a")?.focus({ preventScroll: true });
  return true;
}

function open(root) {
  if (document.activeElement?.matches("a, button, summary, input")) return false;
  const link = root.querySelector("table.records tr.at a");
  link?.click();
  return Boolean(link);
}
