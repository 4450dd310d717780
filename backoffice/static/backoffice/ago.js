import { _, ngettext } from "./words.js";

/** A relative time in the words of the server; null for instants that are better shown as a date. */
export function distance(then, now = Date.now()) {
  const seconds = Math.floor((now - then) / 1000);
  const whole = (unit) => Math.max(1, Math.round(seconds / unit));
  if (seconds < 45) return _("just now");
  if (seconds < 45 * 60) return ngettext("%(n)s min ago", "%(n)s min ago", whole(60));
  if (seconds < 22 * 3600) return ngettext("%(n)s h ago", "%(n)s h ago", whole(3600));
  if (seconds < 26 * 86400) return ngettext("%(n)s day ago", "%(n)s days ago", whole(86400));
  return null;
}

/** Updates texts like “3 min ago” while the page is open. */
export function keepAgo(root) {
  const refresh = () => {
    for (const time of root.querySelectorAll("time[data-ago]")) {
      const words = distance(Date.parse(time.dateTime));
      if (words !== null && time.textContent !== words) time.textContent = words;
    }
  };
  setInterval(refresh, 30_000);
}
