import { isOurs } from "./answers.js";

const WAIT_MS = 140;

/** Ctrl+K: finds a record or goes to a page. Without JavaScript the same link opens the search page. */
export function bindPalette(root) {
  const dialog = root.querySelector("[data-search-dialog]");
  if (!dialog) return;
  const input = dialog.querySelector("input[type=search]");
  const results = dialog.querySelector("[data-search-results]");
  const address = dialog.querySelector("form").action;
  let lastRequest = 0;
  let timer = null;

  const show = () => {
    dialog.showModal();
    input.select();
    search();
  };
  const search = async () => {
    const words = input.value.trim();
    const number = ++lastRequest;
    const found = words ? await fetchResults(address, words) : "";
    if (number !== lastRequest) return; // a later query has been sent
    results.replaceChildren(...navigationLinks(root, words), ...parse(found));
    mark(results, 0);
  };

  for (const opener of root.querySelectorAll("[data-open-search]")) {
    opener.addEventListener("click", (event) => {
      event.preventDefault();
      show();
    });
  }
  root.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!dialog.open) show();
    }
  });
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, WAIT_MS);
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      mark(results, marked(results) + step);
    } else if (event.key === "Enter") {
      const link = [...results.querySelectorAll("a")][marked(results)];
      if (link) {
        event.preventDefault();
        link.click();
      }
    }
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

async function fetchResults(address, words) {
  const answer = await fetch(`${address}?${new URLSearchParams({ q: words, fragment: 1 })}`);
  return answer.ok && isOurs(answer) ? answer.text() : "";
}

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return [...template.content.children];
}

/** Navigation entries whose label contains the query. */
function navigationLinks(root, words) {
  const links = [...root.querySelectorAll(".side li a")].filter((link) =>
    link.textContent.toLowerCase().includes(words.toLowerCase()),
  );
  if (!links.length) return [];
  const list = document.createElement("ul");
  list.className = "links";
  for (const link of links) {
    const item = document.createElement("li");
    const copy = document.createElement("a");
    copy.href = link.href;
    copy.append(...[...link.childNodes].map((node) => node.cloneNode(true)));
    item.append(copy);
    list.append(item);
  }
  const section = document.createElement("section");
  section.className = "hits";
  section.append(list);
  return [section];
}

function marked(results) {
  return [...results.querySelectorAll("a")].findIndex((link) => link.classList.contains("at"));
}

function mark(results, wanted) {
  const links = [...results.querySelectorAll("a")];
  const at = Math.min(Math.max(wanted, 0), links.length - 1);
  links.forEach((link, number) => link.classList.toggle("at", number === at));
  links[at]?.scrollIntoView({ block: "nearest" });
}
