import { _ } from "../words.js";

/** A verdict in a sentence, for whoever made the edit. */
export function verdictOf({ name, state, verdict, why }) {
  const values = { name, version: verdict?.version };
  if (state === "refused") return _("%(name)s: refused. %(why)s", { name, why: whyNot(verdict, why) });
  const words = {
    applied: _("%(name)s: saved as version %(version)s.", values),
    duplicate: _("%(name)s: saved as version %(version)s.", values),
    merged: _("%(name)s: saved as version %(version)s, together with what others changed meanwhile.", values),
    unchanged: _("%(name)s: it was like that already.", values),
    conflict: _("%(name)s: somebody else changed the same. It waits for a decision.", values),
  };
  return words[verdict?.status] ?? name;
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
    server_error: _("The server stumbles over it."),
  };
  return words[verdict?.code] ?? why;
}
