import { Batches } from "./batches.js";
import { live } from "./live.js";

/** The number of open conflicts beside the inbox follows the log, on every page. */
export function open(element) {
  const look = new Batches(async () => {
    const answer = await fetch(element.dataset.waiting, { credentials: "same-origin" });
    if (!answer.ok || !answer.headers.get("Content-Type")?.includes("json")) return;
    const { everybody } = await answer.json();
    element.textContent = String(everybody);
    element.hidden = everybody === 0;
  }, 300);
  live().subscribe(["conflicts"], {
    onEvent: () => look.add("conflicts"),
    onReset: (frame) => frame.reason !== "forbidden" && look.add("conflicts"),
    onDenied: () => {},
  });
}
