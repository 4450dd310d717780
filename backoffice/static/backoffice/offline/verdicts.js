import { _ } from "../words.js";

/** The verdict on an edit as a sentence for its author. */
export function verdictOf({ state, verdict, why }) {
  if (state === "refused") return _("Rejected. %(why)s", { why: rejectionText(verdict, why) });
  const { status, version, why: because } = verdict;
  if (because === "age") return _("It waited for more than seven days and needs a review before it is saved.");
  const words = {
    merged: _("Saved as version %(version)s and merged with changes by others.", { version }),
    unchanged: _("No change: the record already had these values."),
    conflict: _("Conflicts with a change by someone else. A decision is needed."),
  };
  return words[status] ?? _("Saved as version %(version)s.", { version });
}

/** Verdicts as toast texts: one per edit with its record, or a summary for three and more. */
export function summaries(edits) {
  if (edits.length < 3) return edits.map((edit) => `${edit.name}: ${verdictOf(edit)}`);
  const rest = edits.filter((edit) => edit.state === "refused" || edit.verdict.status === "conflict").length;
  const values = { n: edits.length, saved: edits.length - rest, rest };
  return [_("%(n)s edits sent: %(saved)s saved, %(rest)s need attention.", values)];
}

/** The URL of the page where the conflict of an edit is decided. */
export function conflictUrlOf({ conflictUrl }, { verdict }) {
  return conflictUrl.replace(/0{8}-0{4}-0{4}-0{4}-0{12}/, verdict.conflict_id);
}

/** The reason for a rejection: a known code in UI words, else the message of the server. */
export function rejectionText(verdict, why) {
  const words = {
    forbidden: _("Your role does not allow this."),
    not_found: _("This record no longer exists."),
    idempotency_key_reused: _("A different edit with this id was already saved. Check the record."),
    reason_required: _("Enter a reason: it is required for this change."),
    server_error: _("Server error."),
    too_large: _("This edit is too large for the server."),
    blocked: _("Something between this browser and the server blocks this edit. Ask your network administrator."),
  };
  return words[verdict?.code] ?? why;
}
