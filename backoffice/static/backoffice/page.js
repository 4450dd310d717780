/** Entry point of every page: binds the shared behaviour and loads the module of each feature on the page. */
import { keepAgo } from "./ago.js";
import { load } from "./loading.js";
import { bindShortcuts } from "./shortcuts.js";
import { bindPalette } from "./palette.js";
import { bindForms, focusError } from "./posted_forms.js";
import * as session from "./session.js";
import { dismissToasts } from "./toasts.js";

document.documentElement.classList.add("scripted");
keepAgo(document);
bindPalette(document);
bindShortcuts(document);
dismissToasts(document);
bindFilters(document);
bindMenus(document);
guardDoubleSubmit(document);
bindForms(document);
focusError(document);

const features = [
  ["[data-list]", () => import("./list.js")],
  ["[data-feed], [data-history]", () => import("./feed.js")],
  ["[data-record]", () => import("./record.js")],
  ["[data-fields-editor]", () => import("./fields.js")],
  ["[data-conflict]", () => import("./conflict.js")],
  ["[data-poll]", () => import("./system.js")],
  ["[data-inbox-badge]", () => import("./inbox_badge.js")],
  ["[data-session]", async () => session], // not by a later request: that could fail, and the page stay readable
  ["[data-person-url]", () => import("./offline/shell.js")],
  ["[data-record] [data-edit]", () => import("./offline/saver.js")],
  ["[data-queue-page]", () => import("./offline/page.js")],
  ["[data-signed-out-person]", () => import("./offline/leave.js")],
];
loadFeatures(document);
document.addEventListener("replaced", ({ target }) => loadFeatures(target));

function loadFeatures(root) {
  for (const [selector, imported] of features) {
    const element = root.querySelector(selector);
    if (element) load(imported()).then((feature) => feature?.open(element));
  }
}

/** Choosing in a filter submits the form; empty filters are left out of the URL. */
function bindFilters(root) {
  for (const form of root.querySelectorAll("[data-filters]")) {
    form.addEventListener("change", (event) => {
      if (event.target.matches("select, [type=date]")) form.requestSubmit();
    });
    form.addEventListener("submit", () => {
      for (const field of form.elements) if (field.name && field.value === "") field.disabled = true;
    });
  }
  window.addEventListener("pageshow", () => {
    for (const field of root.querySelectorAll("[data-filters] :disabled")) field.disabled = false;
  });
}

/** Closes open menus on Escape and on clicks elsewhere. */
function bindMenus(root) {
  const close = () => root.querySelectorAll("details.menu[open]").forEach((menu) => menu.removeAttribute("open"));
  root.addEventListener("click", (event) => {
    if (!event.target.closest("details.menu")) close();
  });
  root.addEventListener("keydown", (event) => event.key === "Escape" && close());
}

/** Ignores a second submit while the first is pending, before the listeners of the form itself see it. */
function guardDoubleSubmit(root) {
  const guard = (event) => {
    const button = event.target.querySelector("[data-save]");
    if (!button) return;
    if (button.getAttribute("aria-busy") === "true") {
      event.preventDefault();
      event.stopImmediatePropagation();
    } else button.setAttribute("aria-busy", "true");
  };
  root.addEventListener("submit", guard, { capture: true });
  root.addEventListener("stayed", (event) => event.target.querySelector("[data-save]")?.removeAttribute("aria-busy"));
  window.addEventListener("pageshow", () => {
    for (const button of root.querySelectorAll("[data-save][aria-busy]")) button.removeAttribute("aria-busy");
  });
}
