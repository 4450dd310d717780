/** Small values kept in this browser. Where a page may not store, reading gives null and writing has no effect. */

export function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Returns whether the value is stored; where that is forbidden or full, it lasts as long as the page. */
export function write(key, value) {
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

export function remove(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // forbidden: there is nothing to remove
  }
}

export function keys() {
  try {
    return Object.keys(localStorage);
  } catch {
    return [];
  }
}
