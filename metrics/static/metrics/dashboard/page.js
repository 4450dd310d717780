import { button, make } from "../../backoffice/dom.js";
import { _ } from "../../backoffice/words.js";
import { ArrangeMode } from "./arrange.js";
import { Board } from "./board.js";
import { bindAdd, bindImport, bindShare } from "./dialogs.js";
import { Arrangement } from "./order.js";
import { LayoutSaver, send } from "./saver.js";

/** The dashboard page: live tiles, pause, and the arrange mode where the layout is the reader's own. */
function open(element) {
  const board = new Board(element);
  board.start();
  bindPause(element, board);
  if ("version" in element.dataset) bindArrange(element, board);
}

function bindPause(element, board) {
  const pause = element.querySelector("[data-pause]");
  pause.hidden = !board.live;
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    board.pause(paused);
  });
}

function bindArrange(element, board) {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const find = (name) => element.querySelector(`[data-${name}]`);
  const { layoutUrl, importUrl, shareUrl, previewUrl, range, version } = element.dataset;
  const arrangement = new Arrangement(read("board-layout").tiles);
  const [notice, status, undo, toggle] = ["board-notice", "arrange-status", "undo", "arrange"].map(find);
  let sizes = sizesOf(arrangement.tiles);

  const saver = new LayoutSaver(layoutUrl, Number(version), (state, error) => {
    const words = { saving: _("Saving…"), saved: _("Saved"), failed: _("Not saved: %(why)s", { why: error?.message }) };
    status.textContent = words[state] ?? "";
    if (state === "stale") showStale(error.newer);
    if (state === "saved") reloadResized();
  });
  const mode = new ArrangeMode({
    board,
    arrangement,
    announcer: find("board-announcer"),
    changed: (tiles) => {
      undo.disabled = !arrangement.canUndo;
      saver.save(tiles);
    },
  });

  /** A list of another height has another number of rows. */
  function reloadResized() {
    const now = sizesOf(arrangement.tiles);
    board.reload(arrangement.tiles.map(({ id }) => id).filter((id) => sizes[id] !== undefined && sizes[id] !== now[id]));
    sizes = now;
  }

  function showStale(newer) {
    notice.hidden = false;
    const text = make("span", "", _("This dashboard was changed in another tab or browser."));
    const load = button(_("Show that version"), () => location.reload());
    const keep = button(_("Save mine"), () => {
      notice.hidden = true;
      saver.overwrite(arrangement.tiles, newer);
    });
    notice.replaceChildren(text, load, keep);
  }

  function failed(error) {
    status.textContent = error.message;
  }

  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const on = !mode.on;
    toggle.setAttribute("aria-pressed", String(on));
    toggle.querySelector("span").textContent = on ? _("Done") : _("Arrange");
    find("arrange-bar").hidden = !on;
    mode.toggle(on);
  });
  undo.addEventListener("click", () => mode.undo());
  find("reset").addEventListener("click", async () => {
    if (!confirm(_("Replace your arrangement by the default of your role?"))) return;
    try {
      await send("DELETE", layoutUrl, undefined, saver.version);
      location.reload();
    } catch (error) {
      if (error.status === 412) showStale(error.newer);
      else failed(error);
    }
  });
  bindAdd(element, {
    previewUrl,
    range,
    catalogue: read("board-catalogue"),
    failed,
    add: (tile, made) => {
      find("board").querySelector(".board-empty")?.remove();
      board.grid.append(made);
      arrangement.change([...arrangement.tiles, tile]);
      board.bind(made);
      mode.show();
      mode.added(tile.id);
      undo.disabled = false;
      saver.save(arrangement.tiles);
    },
  });
  bindShare(element, { url: shareUrl });
  bindImport(element, { url: importUrl, version: () => saver.version, failed, stale: (error) => showStale(error.newer) });
  window.addEventListener("beforeunload", (event) => saver.pending && event.preventDefault());
}

function sizesOf(tiles) {
  return Object.fromEntries(tiles.map(({ id, w, h }) => [id, `${w} ${h}`]));
}

const element = document.querySelector("[data-dashboard]");
if (element) open(element);
