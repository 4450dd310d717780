// Offline edits and their states. Pure functions: no storage, no network, no page.
//
// An edit: `{seq, id, person, stream, type, key, path, name, fields, base_version, trunk_version, queued_at, reason}`,
// `fields` being `{name: {kind, label, value, before, options?}}` as the inputs of the page hold them (kind: text, email,
// json, check, choice), and
//   state    waiting | refused | done      tried    sent without an answer: it may be saved already
//   verdict  of the server, see docs/conflicts.md; `why` is the reason when refused
//   closed   done, and no later edit of its record depends on it any more
import { losesNumbers } from "../inputs.js";
import { same } from "../merge.js";

/** Commands that can be queued. The server lists the pages, and decides everything else. */
export const COMMANDS = new Set(["user.update", "form.update", "setting.set"]);
export const MAX_EDITS = 500; // of one person, waiting or refused
export const KEPT_DONE = 50;

const BATCH_SIZE = 100;
const MAX_FAILURES = 3; // server errors of one edit that was sent alone

// -- typed values ------------------------------------------------------------------------------------------------

/** A value as the server normalizes it, so that a save whose response was lost is recognized when sent again. */
export function cleaned(kind, value) {
  if (typeof value !== "string") return value;
  const text = value.replaceAll("\r\n", "\n");
  if (kind === "email") return text.trim().toLowerCase();
  return kind === "json" ? text : text.trim();
}

/** Whether typing changed the value; another layout of the same JSON does not count. */
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

/** The `data` of the command as JSON text; typed JSON is sent verbatim. */
export function dataText(edit) {
  const parts = Object.entries(edit.fields).map(([name, { kind, value }]) => {
    const clean = cleaned(kind, value);
    return `${JSON.stringify(name)}:${kind === "json" ? clean : JSON.stringify(clean)}`;
  });
  return `{${parts.join(",")}}`;
}

/** The body of `POST sync/`. `now` is the time of this device: the server derives the age of an edit from it. */
export function bodyOf(client, person, edits, now = new Date()) {
  const mutations = edits.map((edit) => {
    const { seq, id, type, key, base_version, trunk_version, queued_at } = edit;
    const reason = edit.reason || null;
    const envelope = JSON.stringify({ seq, id, type, key, base_version, trunk_version, queued_at, reason });
    return `${envelope.slice(0, -1)},"data":${dataText(edit)}}`;
  });
  const sent = JSON.stringify(now.toISOString());
  const head = `"client_id":${JSON.stringify(client)},"person":${person},"sent_at":${sent}`;
  return `{${head},"mutations":[${mutations.join(",")}]}`;
}

// -- a record and its edits ----------------------------------------------------------------------------------------

const bySeq = (a, b) => a.seq - b.seq;

/** Edits of a record that its page at `version` does not contain. */
export function unseen(edits, stream, version) {
  return edits
    .filter((edit) => edit.stream === stream && (edit.state === "waiting" || isSaved(edit, version)))
    .sort(bySeq);
}

function isSaved({ state, verdict }, version) {
  return state === "done" && verdict.status !== "conflict" && verdict.version > version;
}

/** The values that the author of these edits sees: name -> value. */
export function seenBy(edits) {
  const seen = new Map();
  for (const edit of edits) for (const [name, { value }] of Object.entries(edit.fields)) seen.set(name, value);
  return seen;
}

/** The versions that contain these values: name -> version, infinite while the edit waits. */
export function savedVersions(edits) {
  const versions = new Map();
  for (const { fields, verdict } of edits) {
    for (const name of Object.keys(fields)) versions.set(name, verdict?.version ?? Infinity);
  }
  return versions;
}

/** The base versions of a new edit: that of the page, and that including the author's own edits. */
export function basedOn(edits, stream, version) {
  return { trunk_version: version, base_version: version + unseen(edits, stream, version).length };
}

export function waiting(edits) {
  return edits.filter((edit) => edit.state === "waiting").sort(bySeq);
}

/** Streams that a rejected edit blocks. */
export function blockedStreams(edits) {
  return new Set(edits.filter((edit) => edit.state === "refused").map((edit) => edit.stream));
}

/** Number of edits that are waiting or rejected. */
export function openCount(edits) {
  return edits.filter((edit) => edit.state !== "done").length;
}

// -- sending -------------------------------------------------------------------------------------------------------

/** The next edits to send, in order: the oldest waiting ones with the preceding chain of their record, up to `limit`.
 *  `alone` sends a single edit, to find the one that causes a server error. */
export function batchOf(edits, { alone = false, limit = BATCH_SIZE } = {}) {
  const blocked = blockedStreams(edits);
  const chosen = new Set();
  for (const edit of waiting(edits)) {
    if (blocked.has(edit.stream)) continue;
    const predecessors = edits.filter((each) => isNeeded(each, edit) && !chosen.has(each));
    if (chosen.size && chosen.size + predecessors.length + 1 > limit) break;
    for (const each of predecessors.sort(bySeq).slice(-(limit - 1))) chosen.add(each);
    chosen.add(edit);
    if (alone) break;
  }
  return [...chosen].sort(bySeq);
}

/** Whether the server needs a predecessor to know what the author saw: same chain, or newer than the page. */
function isNeeded(predecessor, { stream, seq, trunk_version }) {
  const older = predecessor.stream === stream && predecessor.state === "done" && predecessor.seq < seq;
  return older && (!predecessor.closed || isSaved(predecessor, trunk_version));
}

/** Applies the verdicts to the `sent` edits; returns the changed edits, and those with a verdict to report. */
export function applyVerdicts(edits, sent, results) {
  const verdicts = new Map(results.map((result) => [result.seq, result]));
  const now = new Map(edits.map((edit) => [edit.seq, edit]));
  const verdictsToReport = [];
  for (const { seq, state } of sent) {
    const verdict = verdicts.get(seq);
    if (state !== "waiting" || !verdict || !now.has(seq)) continue;
    const next = withVerdict(now.get(seq), behindDone(verdict, verdicts, now));
    now.set(seq, next);
    if (next.state !== "waiting") verdictsToReport.push(next);
  }
  const streams = new Set(sent.map((edit) => edit.stream));
  for (const stream of streams) close(now, stream);
  const before = new Set(edits);
  return { changed: [...now.values()].filter((edit) => !before.has(edit)), verdicts: verdictsToReport };
}

/** Rejects an edit together with a predecessor that was saved long ago and is rejected by now: no correction
 *  could make it pass. */
function behindDone(verdict, verdicts, now) {
  const predecessor = verdicts.get(verdict.blocked_by);
  return now.get(verdict.blocked_by)?.state === "done" && predecessor ? { ...predecessor, seq: verdict.seq } : verdict;
}

function withVerdict(edit, verdict) {
  const after = { ...edit, tried: false, failures: 0 };
  if (verdict.status !== "rejected") {
    const { status, version = null, conflict_id = null, problem: { why = null } = {} } = verdict;
    return { ...after, state: "done", verdict: { status, version, conflict_id, why } };
  }
  if (verdict.code === "blocked_by") return after; // it waits for its predecessor, which is rejected now
  return refused(after, verdict.code, verdict.problem);
}

function refused(edit, code, problem = {}) {
  const why = Object.values(problem.errors ?? {}).join(" ") || problem.detail || "";
  return { ...edit, state: "refused", verdict: { status: "rejected", code, errors: problem.errors ?? {} }, why };
}

/** Closes the edits of a record once the last one has its verdict: no later edit needs them. */
function close(now, stream) {
  const chain = [...now.values()].filter((edit) => edit.stream === stream);
  if (chain.some((edit) => edit.state !== "done")) return;
  for (const edit of chain) if (!edit.closed) now.set(edit.seq, { ...edit, closed: true });
}

/** After an error that an edit may have caused: one that was sent alone and fails repeatedly is rejected. */
export function afterServerError(sent, code = "server_error") {
  const [edit, ...more] = sent.filter(({ state }) => state === "waiting");
  if (!edit || more.length) return [];
  const failures = (edit.failures ?? 0) + 1;
  if (failures < MAX_FAILURES) return [{ ...edit, failures }];
  return [refused({ ...edit, failures: 0, tried: false }, code)];
}

// -- manual changes ---------------------------------------------------------------------------------------------------

/** A rejected or waiting edit with corrected values: a new command with its own id. */
export function corrected(edit, values, id, reason = edit.reason) {
  const fields = Object.fromEntries(
    Object.entries(edit.fields).map(([name, field]) => [name, { ...field, value: values[name] ?? field.value }]),
  );
  return { ...edit, id, fields, reason, state: "waiting", tried: false, verdict: null, why: "" };
}

/** Whether it can be changed or cancelled: not while it may already be saved. */
export function isFree(edit) {
  return edit.state === "refused" || (edit.state === "waiting" && !edit.tried);
}

/** Numbers of finished edits beyond the displayed ones; those that a chain needs stay. */
export function expired(edits) {
  const closed = edits.filter((edit) => edit.state === "done" && edit.closed).sort(bySeq);
  return closed.slice(0, -KEPT_DONE).map((edit) => edit.seq);
}

/** Edits as a JSON file, readable by people and accepted by `POST sync/`. */
export function exported(edits) {
  const commands = edits.map((edit) => {
    const { seq, id, type, key, name, base_version, trunk_version, queued_at, reason, state, why } = edit;
    const fields = { seq, id, type, key, name, base_version, trunk_version, queued_at, reason, state, why };
    return `${JSON.stringify(fields).slice(0, -1)},"data":${dataText(edit)}}`;
  });
  return `[\n${commands.join(",\n")}\n]\n`;
}
