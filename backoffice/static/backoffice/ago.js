import { _, _n } from "./words.js";

/** The distance of an instant as the server writes it; null when it is so long ago that a date is better. */
export function distance(then, now = Date.now()) {
  const seconds = Math.floor((now - then) / 1000);
  if (seconds < 45) return _("just now");
  if (seconds < 45 * 60) return count("%(n)s min ago", "%(n)s min ago", seconds / 60);
  if (seconds < 22 * 3600) return count("%(n)s h ago", "%(n)s h ago", seconds / 3600);
  if (seconds < 26 * 86400) return count("%(n)s day ago", "%(n)s days ago", seconds / 86400);
  return null;
}

function count(one, many, amount) {
  const n = Math.max(1, Math.round(amount));
  return _n(one, many, n);
}

/** Keep “3 min ago” true while the page is open. */
export function keepAgo(root) {
  const refresh = () => {
    for (const time of root.querySelectorAll("time[data-ago]")) {
      const words = distance(Date.parse(time.dateTime));
      if (words !== null && time.textContent !== words) time.textContent = words;
    }
  };
  setInterval(refresh, 30_000);
}
