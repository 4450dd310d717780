// Edits made without a network, and what becomes of them. Pure: no store, no network, no page.
//
// An edit: `{seq, id, person, stream, type, key, path, name, fields, base_version, trunk_version, queued_at, reason}`,
// `fields` being `{name: {kind, label, value, before, options?}}` as the inputs of the page hold them (kind: text, email,
// json, check, choice), and
//   state    waiting | refused | done      tried    it was sent, and no answer came: it may be saved already
//   verdict  the server's, see docs/conflicts.md; `why` in words when refused
//   closed   done, and no later edit of its record needs it any more to be understood
import { losesNumbers } from "../inputs.js";
import { same } from "../merge.js";

/** What may be done without a network. The server lists the pages, and decides everything else. */
export const COMMANDS = new Set(["user.update", "form.update", "setting.set"]);
export const MAX_EDITS = 500; // of one person, waiting or refused
export const KEPT_DONE = 50;

const BATCH = 100;
const FAILURES = 3; // of one edit alone, by a fault of the server

// -- what was typed ------------------------------------------------------------------------------------------------

/** A value as the server will read it: the same on both sides, so that a save whose answer was lost is known again. */
export function cleaned(kind, value) {
  if (typeof value !== "string") return value;
  const text = value.replaceAll("\r\n", "\n");
  if (kind === "email") return text.trim().toLowerCase();
  return kind === "json" ? text : text.trim();
}

/** Did typing change it? Another layout of the same JSON did not. */
export function differs(kind, value, before) {
  const [a, b] = [cleaned(kind, value), cleaned(kind, before)];
  if (a === b) return false;
  if (kind !== "json" || losesNumbers(a) || !isJson(a) || !isJson(b)) return true;
  return !same(JSON.parse(a), JSON.parse(b));
}

export function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** The `data` of its command, as JSON text: JSON that was typed goes as it was typed. */
export function dataText(edit) {
  const parts = Object.entries(edit.fields).map(([name, { kind, value }]) => {
    const clean = cleaned(kind, value);
    return `${JSON.stringify(name)}:${kind === "json" ? clean : JSON.stringify(clean)}`;
  });
  return `{${parts.join(",")}}`;
}

/** The body of `POST sync/`. `now` is this device's time: the server tells an edit's age from it, whatever the clock. */
export function bodyOf(client, person, edits, now = new Date()) {
  const mutations = edits.map((edit) => {
    const { seq, id, type, key, base_version, trunk_version, queued_at, reason } = edit;
    const envelope = JSON.stringify({ seq, id, type, key, base_version, trunk_version, queued_at, reason: reason || null });
    return `${envelope.slice(0, -1)},"data":${dataText(edit)}}`;
  });
  const sent = JSON.stringify(now.toISOString());
  return `{"client_id":${JSON.stringify(client)},"person":${person},"sent_at":${sent},"mutations":[${mutations.join(",")}]}`;
}

// -- a record and its edits ----------------------------------------------------------------------------------------

const bySeq = (a, b) => a.seq - b.seq;

/** Edits of a record that its page of `version` does not show by itself. */
export function unseen(edits, stream, version) {
  return edits
    .filter((edit) => edit.stream === stream && (edit.state === "waiting" || isSaved(edit, version)))
    .sort(bySeq);
}

function isSaved({ state, verdict }, version) {
  return state === "done" && verdict.status !== "conflict" && verdict.version > version;
}

/** What the author of these edits sees: name -> value. */
export function seenBy(edits) {
  const seen = new Map();
  for (const edit of edits) for (const [name, { value }] of Object.entries(edit.fields)) seen.set(name, value);
  return seen;
}

/** The versions that a new edit is made on: the page's, and as its author counts. */
export function basedOn(edits, stream, version) {
  return { trunk_version: version, base_version: version + unseen(edits, stream, version).length };
}

export function waiting(edits) {
  return edits.filter((edit) => edit.state === "waiting").sort(bySeq);
}

/** Streams that a refused edit holds up. */
export function heldUp(edits) {
  return new Set(edits.filter((edit) => edit.state === "refused").map((edit) => edit.stream));
}

/** How many there are to do something about. */
export function unsettled(edits) {
  return edits.filter((edit) => edit.state !== "done").length;
}

// -- sending -------------------------------------------------------------------------------------------------------

/** What to send next, in order: the oldest that wait, each with the whole chain of its record before it, as many as
 *  fit. `alone` sends one only, to find the one that the server stumbles over. */
export function batchOf(edits, { alone = false, limit = BATCH } = {}) {
  const held = heldUp(edits);
  const chosen = new Set();
  for (const edit of waiting(edits)) {
    if (held.has(edit.stream)) continue;
    const elders = edits.filter((each) => isNeeded(each, edit) && !chosen.has(each));
    if (chosen.size && chosen.size + elders.length + 1 > limit) break;
    for (const each of elders.sort(bySeq).slice(-(limit - 1))) chosen.add(each);
    chosen.add(edit);
    if (alone) break;
  }
  return [...chosen].sort(bySeq);
}

/** Does the server need the elder to know what the author of an edit saw? It is of its chain, or newer than its page. */
function isNeeded(elder, { stream, seq, trunk_version }) {
  const older = elder.stream === stream && elder.state === "done" && elder.seq < seq;
  return older && (!elder.closed || isSaved(elder, trunk_version));
}

/** The edits after the server's verdicts: what changed of them, and what there is to tell. `asked` is what was sent. */
export function settle(edits, asked, results) {
  const verdicts = new Map(results.map((result) => [result.seq, result]));
  const now = new Map(edits.map((edit) => [edit.seq, edit]));
  const told = [];
  for (const { seq, state } of asked) {
    const verdict = verdicts.get(seq);
    if (state !== "waiting" || !verdict || !now.has(seq)) continue;
    const next = judged(now.get(seq), behindDone(verdict, verdicts, now));
    now.set(seq, next);
    if (next.state !== "waiting") told.push(next);
  }
  const streams = new Set(asked.map((edit) => edit.stream));
  for (const stream of streams) close(now, stream);
  const before = new Set(edits);
  return { changed: [...now.values()].filter((edit) => !before.has(edit)), told };
}

/** An edit behind one that was saved long ago, and that the server by now refuses to hear of, is refused with it: in the
 *  tray there is nothing to mend that would let it pass. */
function behindDone(verdict, verdicts, now) {
  const elder = verdicts.get(verdict.blocked_by);
  return now.get(verdict.blocked_by)?.state === "done" && elder ? { ...elder, seq: verdict.seq } : verdict;
}

function judged(edit, verdict) {
  const after = { ...edit, tried: false, failures: 0 };
  if (verdict.status !== "rejected") {
    const { status, version = null, conflict_id = null, problem: { why = null } = {} } = verdict;
    return { ...after, state: "done", verdict: { status, version, conflict_id, why } };
  }
  if (verdict.code === "blocked_by") return after; // it waits for the one before it, which is in the tray by now
  return refused(after, verdict.code, verdict.problem);
}

function refused(edit, code, problem = {}) {
  const why = Object.values(problem.errors ?? {}).join(" ") || problem.detail || "";
  return { ...edit, state: "refused", verdict: { status: "rejected", code, errors: problem.errors ?? {} }, why };
}

/** When the last of a record has its verdict, nobody needs the ones before it any more. */
function close(now, stream) {
  const chain = [...now.values()].filter((edit) => edit.stream === stream);
  if (chain.some((edit) => edit.state !== "done")) return;
  for (const edit of chain) if (!edit.closed) now.set(edit.seq, { ...edit, closed: true });
}

/** After a fault of the server (500): an edit that was sent alone and fails again and again goes to the tray. */
export function failed(asked) {
  const [edit, ...more] = asked.filter(({ state }) => state === "waiting");
  if (!edit || more.length) return [];
  const failures = (edit.failures ?? 0) + 1;
  if (failures < FAILURES) return [{ ...edit, failures }];
  return [refused({ ...edit, failures: 0, tried: false }, "server_error")];
}

// -- by hand -------------------------------------------------------------------------------------------------------

/** A refused or waiting edit with other values. It is another command by that, with an id of its own. */
export function mended(edit, values, id, reason = edit.reason) {
  const fields = Object.fromEntries(
    Object.entries(edit.fields).map(([name, field]) => [name, { ...field, value: values[name] ?? field.value }]),
  );
  return { ...edit, id, fields, reason, state: "waiting", tried: false, verdict: null, why: "" };
}

/** May it be changed or cancelled? Not while it may be saved already. */
export function isFree(edit) {
  return edit.state === "refused" || (edit.state === "waiting" && !edit.tried);
}

/** Done ones beyond what is kept for looking at; those that a chain needs stay. */
export function outlived(edits) {
  const closed = edits.filter((edit) => edit.state === "done" && edit.closed).sort(bySeq);
  return closed.slice(0, -KEPT_DONE).map((edit) => edit.seq);
}

/** For a file: everything about an edit, readable by people and by `POST sync/`. */
export function exported(edits) {
  const commands = edits.map((edit) => {
    const { seq, id, type, key, name, base_version, trunk_version, queued_at, reason, state, why } = edit;
    const fields = { seq, id, type, key, name, base_version, trunk_version, queued_at, reason, state, why };
    return `${JSON.stringify(fields).slice(0, -1)},"data":${dataText(edit)}}`;
  });
  return `[\n${commands.join(",\n")}\n]\n`;
}
