import { button, make } from "../../backoffice/dom.js";
import { fetchDocument } from "../../backoffice/live.js";
import { _, ngettext } from "../../backoffice/words.js";
import { send } from "./saver.js";

/** The dialogs of the arrange mode: add a tile, share a copy, import a file. */

/** Asks for a widget; `add(tile, element)` gets the new tile and its element, as the server drew it. */
export function bindAdd(root, { previewUrl, range, catalogue, add, failed }) {
  const dialog = root.querySelector("[data-add-dialog]");
  const kind = dialog.querySelector("[data-add-kind]");
  const metric = dialog.querySelector("[data-add-metric-name]");
  const target = dialog.querySelector("[data-add-target-name]");
  const worst = target.options[0];
  const [view, text] = [dialog.querySelector("[data-add-view]"), dialog.querySelector("[data-add-text]")];
  kind.append(...catalogue.widgets.map((one) => new Option(one.label, one.kind)));
  metric.append(...catalogue.metrics.map((one) => new Option(one.label, one.name)));
  const show = () => {
    dialog.querySelector("[data-add-metric]").hidden = kind.value !== "metric";
    dialog.querySelector("[data-add-note]").hidden = kind.value !== "note";
  };
  const showTargets = () => {
    const { group } = catalogue.metrics.find((one) => one.name === metric.value) ?? {};
    const names = catalogue.targets[group] ?? [];
    target.replaceChildren(worst, ...names.map((name) => new Option(name, name)));
    target.value = "";
    dialog.querySelector("[data-add-target]").hidden = !names.length;
  };
  kind.addEventListener("change", show);
  metric.addEventListener("change", showTargets);
  show();
  showTargets();
  root.querySelector("[data-add-tile]").addEventListener("click", () => {
    dialog.returnValue = "";
    dialog.showModal();
  });
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "add") return;
    const widget = catalogue.widgets.find((one) => one.kind === kind.value);
    const options = {};
    if (widget.kind === "metric") {
      Object.assign(options, { metric: metric.value, view: view.value });
      if (target.value) options.target = target.value;
    }
    if (widget.kind === "note") options.text = text.value;
    const size = widget.kind === "metric" && view.value !== "number" ? { w: 2, h: 2 } : { w: widget.w, h: widget.h };
    const tile = { id: newId(), kind: widget.kind, ...size, options };
    const asked = new URLSearchParams({ id: tile.id, kind: tile.kind, ...size, ...options });
    try {
      const { page } = await fetchDocument(`${previewUrl}?${asked}&${range}`);
      add(tile, document.adoptNode(page.querySelector("[data-tile]")));
    } catch (error) {
      failed(error);
    }
  });
}

function newId() {
  return crypto.getRandomValues(new Uint32Array(2)).reduce((id, part) => id + part.toString(36), "t");
}

/** Shares a copy of the saved layout, and lists the copies there are. */
export function bindShare(root, { url }) {
  const dialog = root.querySelector("[data-share-dialog]");
  const name = dialog.querySelector("[data-share-name]");
  const result = dialog.querySelector("[data-share-result]");
  const list = dialog.querySelector("[data-share-list]");
  const show = ({ items }) => list.replaceChildren(...items.map(item));

  function item(copy) {
    const line = make("li");
    const link = make("a", "", copy.name);
    link.href = copy.url;
    const remove = async () => show((await send("DELETE", `${url}${copy.id}/`)).body);
    line.append(link, button(_("Remove"), () => remove().catch(report)));
    return line;
  }

  function report(error) {
    result.textContent = error.message;
  }

  root.querySelector("[data-share]").addEventListener("click", async () => {
    result.textContent = "";
    dialog.showModal();
    try {
      show((await send("GET", url)).body);
    } catch (error) {
      report(error);
    }
  });
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    if (event.submitter?.value !== "share") return;
    event.preventDefault();
    try {
      const { body } = await send("POST", url, { name: name.value.trim() });
      const address = new URL(body.url, location.href).href;
      result.textContent = _("Shared: %(address)s", { address });
      name.value = "";
      show((await send("GET", url)).body);
    } catch (error) {
      report(error);
    }
  });
}

/** Imports a file; afterwards names what is unknown here and what the person may not see. */
export function bindImport(root, { url, version, failed, stale }) {
  const file = root.querySelector("[data-import-file]");
  const dialog = root.querySelector("[data-import-dialog]");
  const result = dialog.querySelector("[data-import-result]");
  root.querySelector("[data-import]").addEventListener("click", () => file.click());
  file.addEventListener("change", async () => {
    if (!file.files.length) return;
    try {
      const { body } = await send("POST", url, await file.files[0].text(), version());
      const count = body.layout.tiles.length;
      const lines = [ngettext("%(n)s tile was imported.", "%(n)s tiles were imported.", count)];
      if (body.unknown.length) lines.push(_("Not available here: %(kinds)s.", { kinds: body.unknown.join(", ") }));
      if (body.forbidden.length) lines.push(_("Left out, not permitted: %(kinds)s.", { kinds: body.forbidden.join(", ") }));
      result.replaceChildren(...lines.map((line) => make("p", "", line)));
      dialog.showModal();
    } catch (error) {
      if (error.status === 412) stale(error);
      else failed(error);
    }
    file.value = "";
  });
  dialog.addEventListener("close", () => location.reload());
}
