import { DebouncedSet } from "./debounced_set.js";
import { live } from "./live.js";

/** Keeps the number of open conflicts in the navigation current, on every page. */
export function open(element) {
  const refresh = new DebouncedSet(async () => {
    const answer = await fetch(element.dataset.inboxBadge, { credentials: "same-origin" });
    if (!answer.ok || !answer.headers.get("Content-Type")?.includes("json")) return;
    const { everybody } = await answer.json();
    element.textContent = String(everybody);
    element.hidden = everybody === 0;
  }, 300);
  live().subscribe(["conflicts"], {
    onEvent: () => refresh.add("conflicts"),
    onReset: (frame) => frame.reason !== "forbidden" && refresh.add("conflicts"),
    onDenied: () => {},
  });
}
