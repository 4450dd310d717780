/** The layout while it is being arranged: pure changes of an ordered list of tiles, and undo. */

export const MAX_WIDTH = 4;
export const MAX_HEIGHT = 3;
const MAX_UNDO = 50;

/** A tile moved by `step` places; the same list where it cannot go further. */
export function moved(tiles, id, step) {
  const from = tiles.findIndex((tile) => tile.id === id);
  return placed(tiles, id, from + step);
}

/** A tile moved to a place of the list, 0 being the first. */
export function placed(tiles, id, place) {
  const from = tiles.findIndex((tile) => tile.id === id);
  const to = Math.min(Math.max(place, 0), tiles.length - 1);
  if (from < 0 || from === to) return tiles;
  const others = tiles.filter((tile) => tile.id !== id);
  return [...others.slice(0, to), tiles[from], ...others.slice(to)];
}

/** A tile made wider or taller, within its limits; the same list where it cannot be. */
export function resized(tiles, id, { w = 0, h = 0 }) {
  let changed = false;
  const next = tiles.map((tile) => {
    if (tile.id !== id) return tile;
    const size = { w: clamp(tile.w + w, MAX_WIDTH), h: clamp(tile.h + h, MAX_HEIGHT) };
    changed = size.w !== tile.w || size.h !== tile.h;
    return changed ? { ...tile, ...size } : tile;
  });
  return changed ? next : tiles;
}

export function removed(tiles, id) {
  return tiles.filter((tile) => tile.id !== id);
}

function clamp(value, most) {
  return Math.min(Math.max(value, 1), most);
}

/** The tiles as they are, and the versions before, for undo. */
export class Arrangement {
  #past = [];

  constructor(tiles) {
    this.tiles = tiles;
  }

  /** Applies a change; false where it changed nothing. */
  change(next) {
    if (next === this.tiles) return false;
    this.#past.push(this.tiles);
    if (this.#past.length > MAX_UNDO) this.#past.shift();
    this.tiles = next;
    return true;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  undo() {
    if (!this.canUndo) return false;
    this.tiles = this.#past.pop();
    return true;
  }

  /** One undo for all changes since `tiles` were the present ones: a tile that was moved step by step. */
  join(tiles) {
    const place = this.#past.indexOf(tiles);
    if (place >= 0) this.#past.length = place + 1;
  }

  /** Takes back all changes since `tiles` were the present ones. */
  revert(tiles) {
    const place = this.#past.indexOf(tiles);
    if (place < 0) return;
    this.#past.length = place;
    this.tiles = tiles;
  }

  find(id) {
    return this.tiles.find((tile) => tile.id === id);
  }

  placeOf(id) {
    return this.tiles.findIndex((tile) => tile.id === id) + 1;
  }
}
