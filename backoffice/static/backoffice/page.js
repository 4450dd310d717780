/** What every page starts with; a room's own module is loaded where the page has that room. */
import { keepAgo } from "./ago.js";
import { bindKeys } from "./keys.js";
import { bindPalette } from "./palette.js";
import { passAway } from "./toasts.js";

document.documentElement.classList.add("scripted");
keepAgo(document);
bindPalette(document);
bindKeys(document);
passAway(document);
bindFilters(document);
bindMenus(document);
guardDoubleSubmit(document);
document.querySelector(".field.wrong :is(input:not([type=hidden]), select, textarea)")?.focus();

const rooms = [
  ["[data-list]", () => import("./list.js")],
  ["[data-feed], [data-history]", () => import("./feed.js")],
  ["[data-record]", () => import("./record.js")],
  ["[data-fields-editor]", () => import("./fields.js")],
  ["[data-conflict]", () => import("./conflict.js")],
  ["[data-poll]", () => import("./system.js")],
  ["[data-waiting]", () => import("./waiting.js")],
  ["[data-session]", () => import("./session.js")],
  ["[data-person-url]", () => import("./offline/shell.js")],
  ["[data-command]", () => import("./offline/saver.js")],
  ["[data-queue-page]", () => import("./offline/page.js")],
  ["[data-left]", () => import("./offline/leave.js")],
];
for (const [selector, load] of rooms) {
  const element = document.querySelector(selector);
  if (element) load().then((room) => room.open(element), isMissing);
}

/** The network went while the page was loading: it works as without that script. */
function isMissing(error) {
  console.warn(error.message);
}

/** A choice in a filter's menu shows the list at once; empty filters stay out of the address. */
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

/** An open menu closes on Escape and on a click elsewhere. */
function bindMenus(root) {
  const close = () => root.querySelectorAll("details.menu[open]").forEach((menu) => menu.removeAttribute("open"));
  root.addEventListener("click", (event) => {
    if (!event.target.closest("details.menu")) close();
  });
  root.addEventListener("keydown", (event) => event.key === "Escape" && close());
}

/** A second click while the first is on its way does nothing. (The command's id would make it harmless anyway.) */
function guardDoubleSubmit(root) {
  root.addEventListener("submit", (event) => {
    const button = event.target.querySelector("[data-save]");
    if (!button) return;
    if (button.getAttribute("aria-busy") === "true") event.preventDefault();
    else button.setAttribute("aria-busy", "true");
  });
  root.addEventListener("stayed", (event) => event.target.querySelector("[data-save]").removeAttribute("aria-busy"));
  window.addEventListener("pageshow", () => {
    for (const button of root.querySelectorAll("[data-save][aria-busy]")) button.removeAttribute("aria-busy");
  });
}
