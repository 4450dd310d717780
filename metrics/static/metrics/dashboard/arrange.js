import { button, make } from "../../backoffice/dom.js";
import { _ } from "../../backoffice/words.js";
import { MAX_HEIGHT, MAX_WIDTH, moved, placed, removed, resized } from "./order.js";

const KEYS = {
  ArrowLeft: [-1, { w: -1 }],
  ArrowUp: [-1, { h: -1 }],
  ArrowRight: [1, { w: 1 }],
  ArrowDown: [1, { h: 1 }],
};

/**
 * The arrange mode: each tile gets a handle and buttons. The handle is dragged with the pointer; after Enter the arrows
 * move the tile and Shift with arrows changes its size, Enter ends this and Escape takes it back. Every change is
 * announced, and each can be undone.
 */
export class ArrangeMode {
  #grabbed = null; // { id, before }

  /** `changed(tiles)` is called after each change that stays. */
  constructor({ board, arrangement, announcer, changed }) {
    Object.assign(this, { board, arrangement, announcer, changed, on: false });
    this.detached = new Map(); // id -> element of a tile that was removed
    document.addEventListener("keydown", (event) => this.#onUndoKey(event));
  }

  toggle(on) {
    this.on = on;
    this.board.element.classList.toggle("arranging", on);
    if (!on) this.#drop();
    for (const element of this.board.elements()) {
      if (on) this.equip(element);
      else element.querySelector("[data-tile-tools]")?.remove();
    }
  }

  /** Gives a tile its handle and buttons. */
  equip(element) {
    if (!this.on || element.querySelector("[data-tile-tools]")) return;
    const id = element.dataset.tile;
    const tools = make("div", "tile-tools");
    tools.dataset.tileTools = "";
    const handle = button("", () => this.#grab(id), "handle");
    handle.dataset.handle = "";
    handle.append(icon("grip"));
    handle.setAttribute("aria-pressed", "false");
    handle.addEventListener("keydown", (event) => this.#onKey(event, id));
    handle.addEventListener("blur", () => this.#onBlur(id));
    handle.addEventListener("pointerdown", (event) => this.#drag(event, id));
    tools.append(
      handle,
      this.#tool(id, "earlier", "left", _("Earlier"), () => this.#move(id, -1)),
      this.#tool(id, "later", "right", _("Later"), () => this.#move(id, 1)),
      this.#tool(id, "narrower", "minus", _("Narrower"), () => this.#resize(id, { w: -1 })),
      this.#tool(id, "wider", "plus", _("Wider"), () => this.#resize(id, { w: 1 })),
      this.#tool(id, "shorter", "up", _("Shorter"), () => this.#resize(id, { h: -1 })),
      this.#tool(id, "taller", "down", _("Taller"), () => this.#resize(id, { h: 1 })),
      this.#tool(id, "remove", "close", _("Remove"), () => this.remove(id)),
    );
    element.querySelector("[data-tile-head]").after(tools);
    this.#label(element);
  }

  #tool(id, name, sign, label, act) {
    const made = button("", act, "tile-tool");
    made.dataset.tool = name;
    made.append(icon(sign));
    made.title = label;
    return made;
  }

  /** Brings names and states of a tile's buttons up to date. */
  #label(element) {
    const tile = this.arrangement.find(element.dataset.tile);
    if (!tile) return;
    const name = this.#name(tile.id);
    const at = this.arrangement.placeOf(tile.id);
    const handle = element.querySelector("[data-handle]");
    handle?.setAttribute("aria-label", _("Move %(name)s: %(place)s", { name, place: this.#place(tile.id) }));
    const ends = {
      earlier: at === 1,
      later: at === this.arrangement.tiles.length,
      narrower: tile.w === 1,
      wider: tile.w === MAX_WIDTH,
      shorter: tile.h === 1,
      taller: tile.h === MAX_HEIGHT,
    };
    for (const tool of element.querySelectorAll("[data-tool]")) {
      tool.setAttribute("aria-label", `${tool.title}: ${name}`);
      tool.setAttribute("aria-disabled", String(ends[tool.dataset.tool] ?? false));
    }
  }

  #name(id) {
    const element = this.board.find(id) ?? this.detached.get(id);
    return element.querySelector("[data-tile-name]").textContent.trim();
  }

  #place(id) {
    const tile = this.arrangement.find(id);
    return _("position %(at)s of %(count)s, width %(w)s, height %(h)s", {
      at: this.arrangement.placeOf(id),
      count: this.arrangement.tiles.length,
      w: tile.w,
      h: tile.h,
    });
  }

  announce(text) {
    this.announcer.textContent = text;
  }

  // -- changes ----------------------------------------------------------------------------------------------------

  #move(id, step) {
    this.#apply(moved(this.arrangement.tiles, id, step), id);
  }

  #resize(id, by) {
    this.#apply(resized(this.arrangement.tiles, id, by), id);
  }

  /** Applies a change, announces where the tile is now, and saves it unless the tile is still held. */
  #apply(tiles, id) {
    const focused = document.activeElement;
    const changed = this.arrangement.change(tiles);
    if (changed) this.show();
    this.announce(`${this.#name(id)}, ${this.#place(id)}`);
    if (focused?.isConnected) focused.focus({ preventScroll: true });
    if (changed && !this.#grabbed) this.changed(this.arrangement.tiles);
  }

  remove(id) {
    const name = this.#name(id);
    const next = this.board.find(id).nextElementSibling ?? this.board.find(id).previousElementSibling;
    this.arrangement.change(removed(this.arrangement.tiles, id));
    this.show();
    this.announce(_("%(name)s removed. Undo brings it back.", { name }));
    (next?.querySelector("[data-handle]") ?? document.querySelector("[data-undo]"))?.focus();
    this.changed(this.arrangement.tiles);
  }

  /** A tile was added at the end: its handle gets the focus. */
  added(id) {
    this.announce(_("%(name)s added, %(place)s", { name: this.#name(id), place: this.#place(id) }));
    const element = this.board.find(id);
    element.scrollIntoView({ block: "nearest" });
    element.querySelector("[data-handle]")?.focus({ preventScroll: true });
  }

  undo() {
    const before = this.arrangement.tiles;
    if (!this.arrangement.undo()) return;
    this.show();
    const back = this.arrangement.tiles.find(({ id }) => !before.some((tile) => tile.id === id));
    this.announce(back ? _("%(name)s is back", { name: this.#name(back.id) }) : _("Undone"));
    this.changed(this.arrangement.tiles);
  }

  /** Puts the elements into the order and the sizes of the arrangement. */
  show() {
    const { tiles } = this.arrangement;
    for (const element of this.board.elements()) {
      const id = element.dataset.tile;
      if (tiles.some((tile) => tile.id === id)) continue;
      this.detached.set(id, element);
      element.remove();
    }
    let before = null;
    for (const tile of [...tiles].reverse()) {
      const element = this.board.find(tile.id) ?? this.detached.get(tile.id);
      if (!element) continue;
      if (element.nextElementSibling !== before || !element.isConnected) this.board.grid.insertBefore(element, before);
      this.detached.delete(tile.id);
      for (let size = 1; size <= MAX_WIDTH; size += 1) {
        element.classList.toggle(`w-${size}`, size === tile.w);
        element.classList.toggle(`h-${size}`, size === tile.h);
      }
      before = element;
    }
    for (const element of this.board.elements()) {
      this.equip(element);
      if (this.on) this.#label(element);
    }
  }

  // -- by keyboard ------------------------------------------------------------------------------------------------

  #grab(id) {
    if (this.#grabbed?.id === id) {
      this.#drop();
      return;
    }
    this.#grabbed = { id, before: this.arrangement.tiles };
    this.#press(id, true);
    this.announce(
      _("%(name)s is held, %(place)s. Arrows move it, Shift and arrows change its size, Enter puts it down.", {
        name: this.#name(id),
        place: this.#place(id),
      }),
    );
  }

  #press(id, on) {
    const element = this.board.find(id);
    element?.classList.toggle("held", on);
    element?.querySelector("[data-handle]")?.setAttribute("aria-pressed", String(on));
  }

  #drop() {
    if (!this.#grabbed) return;
    const { id, before } = this.#grabbed;
    this.#grabbed = null;
    this.#press(id, false);
    this.arrangement.join(before);
    this.announce(_("%(name)s is placed, %(place)s", { name: this.#name(id), place: this.#place(id) }));
    if (this.arrangement.tiles !== before) this.changed(this.arrangement.tiles);
  }

  #cancel() {
    const { id, before } = this.#grabbed;
    this.#grabbed = null;
    this.#press(id, false);
    const handle = this.board.find(id).querySelector("[data-handle]");
    this.arrangement.revert(before);
    this.show();
    handle.focus({ preventScroll: true });
    this.announce(_("Cancelled. %(name)s, %(place)s", { name: this.#name(id), place: this.#place(id) }));
  }

  #onKey(event, id) {
    if (this.#grabbed?.id !== id) return;
    if (event.key === "Escape") this.#cancel();
    else if (event.key === "Home" || event.key === "End") {
      this.#apply(placed(this.arrangement.tiles, id, event.key === "Home" ? 0 : Infinity), id);
    } else if (event.key in KEYS) {
      const [step, by] = KEYS[event.key];
      if (event.shiftKey) this.#resize(id, by);
      else this.#move(id, step);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** A tile is put down when the focus leaves it; moving its element takes the focus away only for a moment. */
  #onBlur(id) {
    setTimeout(() => {
      const handle = this.board.find(id)?.querySelector("[data-handle]");
      if (this.#grabbed?.id === id && document.activeElement !== handle) this.#drop();
    });
  }

  #onUndoKey(event) {
    const typing = event.target.matches?.("input, textarea, select");
    if (!this.on || typing || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    this.undo();
  }

  // -- by pointer -------------------------------------------------------------------------------------------------

  #drag(event, id) {
    if (event.button !== 0) return;
    const handle = event.currentTarget;
    const before = this.arrangement.tiles;
    let dragging = false;
    let last = null;
    const move = ({ clientX, clientY }) => {
      if (!dragging && Math.hypot(clientX - event.clientX, clientY - event.clientY) < 6) return;
      dragging = true;
      this.board.find(id).classList.add("held");
      const over = document.elementsFromPoint(clientX, clientY).map((one) => one.closest("[data-tile]")).find(Boolean);
      if (over === last) return; // tiles of other sizes would swap to and fro under the pointer
      last = over;
      if (!over || over.dataset.tile === id || !this.board.grid.contains(over)) return;
      const place = this.arrangement.placeOf(over.dataset.tile) - 1;
      if (this.arrangement.change(placed(this.arrangement.tiles, id, place))) this.show();
    };
    const end = (reason) => {
      document.removeEventListener("pointermove", move);
      document.removeEventListener("pointerup", up);
      document.removeEventListener("pointercancel", cancel);
      document.removeEventListener("keydown", escape, true);
      this.board.find(id)?.classList.remove("held");
      if (!dragging) return;
      const swallow = (click) => click.stopImmediatePropagation(); // the click that ends the drag
      handle.addEventListener("click", swallow, { capture: true });
      setTimeout(() => {
        handle.removeEventListener("click", swallow, { capture: true });
        handle.focus({ preventScroll: true });
      });
      if (reason === "cancel") {
        this.arrangement.revert(before);
        this.show();
      } else {
        this.arrangement.join(before);
        if (this.arrangement.tiles !== before) this.changed(this.arrangement.tiles);
      }
      this.announce(`${this.#name(id)}, ${this.#place(id)}`);
    };
    const up = () => end("drop");
    const cancel = () => end("cancel");
    const escape = (key) => key.key === "Escape" && end("cancel");
    document.addEventListener("pointermove", move);
    document.addEventListener("pointerup", up);
    document.addEventListener("pointercancel", cancel);
    document.addEventListener("keydown", escape, true);
    event.preventDefault();
    handle.focus({ preventScroll: true });
  }
}

/** An icon of the sprite that the page already shows. */
export function icon(name) {
  const known = document.querySelector("svg.icon use").getAttribute("href").split("#")[0];
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${known}#${name}`);
  svg.append(use);
  return svg;
}
