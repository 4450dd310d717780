import { token } from "../../backoffice/offline/shell.js";

const TIMEOUT_MS = 15_000;

/** Saves layouts one after the other; only the newest of those that wait is sent. */
export class LayoutSaver {
  #wanted = null;
  #busy = false;

  /** `onState`: saving, saved, stale (saved elsewhere meanwhile; `newer` is that version) or failed. */
  constructor(url, version, onState) {
    Object.assign(this, { url, version, onState });
  }

  save(tiles) {
    this.#wanted = tiles;
    if (!this.#busy) this.#run();
  }

  /** Saves over the version that somebody else saved. */
  overwrite(tiles, version) {
    this.version = version;
    this.save(tiles);
  }

  get pending() {
    return this.#busy || this.#wanted !== null;
  }

  async #run() {
    this.#busy = true;
    while (this.#wanted !== null) {
      const tiles = this.#wanted;
      this.#wanted = null;
      this.onState("saving");
      try {
        const answer = await send("PUT", this.url, { schema: 1, tiles }, this.version);
        this.version = answer.body.version;
        if (this.#wanted === null) this.onState("saved");
      } catch (error) {
        this.#wanted = null;
        this.onState(error.status === 412 ? "stale" : "failed", error);
      }
    }
    this.#busy = false;
  }
}

/** Sends JSON with the version as `If-Match`; rejects with the problem, its status, and the newer version for 412. */
export async function send(method, url, body, version) {
  const headers = { "X-CSRFToken": token() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (version !== undefined) headers["If-Match"] = `"v${version}"`;
  const content = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  const answer = await fetch(url, { method, headers, body: content, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const found = await answer.json().catch(() => ({}));
  if (answer.ok) return { body: found };
  const newer = Number(/v(\d+)/.exec(answer.headers.get("ETag") ?? "")?.[1] ?? 0);
  throw Object.assign(new Error(found.detail ?? String(answer.status)), { status: answer.status, newer });
}
