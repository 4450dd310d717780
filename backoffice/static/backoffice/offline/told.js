import { _ } from "../words.js";

/** A verdict in a sentence, for whoever made the edit. */
export function verdictOf({ state, verdict, why }) {
  if (state === "refused") return _("Refused. %(why)s", { why: whyNot(verdict, why) });
  const { status, version, why: because } = verdict;
  if (because === "age") return _("It waited more than seven days: somebody has to look at it before it is saved.");
  const words = {
    merged: _("Saved as version %(version)s, together with what others changed meanwhile.", { version }),
    unchanged: _("It was like that already."),
    conflict: _("Somebody else changed the same. It waits for a decision."),
  };
  return words[status] ?? _("Saved as version %(version)s.", { version });
}

/** Verdicts for a passing message: each by the name of its record, many as a sum. */
export function told(edits) {
  if (edits.length < 3) return edits.map((edit) => `${edit.name}: ${verdictOf(edit)}`);
  const rest = edits.filter((edit) => edit.state === "refused" || edit.verdict.status === "conflict").length;
  return [_("Sent: %(n)s. Saved: %(saved)s, to look at: %(rest)s.", { n: edits.length, saved: edits.length - rest, rest })];
}

/** The page on which the conflict of an edit is decided. */
export function conflictAt({ conflictUrl }, { verdict }) {
  return conflictUrl.replace(/0{8}-0{4}-0{4}-0{4}-0{12}/, verdict.conflict_id);
}

/** Why an edit was refused: the server's words where it has some for people, else ours. */
export function whyNot(verdict, why) {
  const words = {
    forbidden: _("Your role does not allow this."),
    not_found: _("There is no such record any more."),
    idempotency_key_reused: _("An edit like it was saved already: look at the record."),
    reason_required: _("Enter a reason: it is required for this change."),
    server_error: _("Server error."),
  };
  return words[verdict?.code] ?? why;
}
