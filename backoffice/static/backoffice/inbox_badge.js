import { jsonOf } from "./answers.js";
import { DebouncedSet } from "./debounced_set.js";
import { live, whilePolling } from "./live.js";

const ANSWER_MS = 30_000;

/** Keeps the number of open conflicts in the navigation current, on every page. */
export function open(element) {
  const refresh = new DebouncedSet(async () => {
    const { everybody } = await jsonOf(await fetch(element.dataset.inboxBadge, { signal: AbortSignal.timeout(ANSWER_MS) }));
    element.textContent = String(everybody);
    element.hidden = everybody === 0;
  }, 300);
  whilePolling(() => refresh.add("poll"));
  live().subscribe(["conflicts"], {
    onEvent: () => refresh.add("conflicts"),
    onReset: (frame) => frame.reason !== "forbidden" && refresh.add("conflicts"),
    onDenied: () => {},
  });
}
