"""Translates messages of the domain into the reader's language.

The domain does not use Django, so its messages are English; they are listed here for the translators. Messages that
contain values are recognised by pattern. A message that is not listed is shown unchanged, and a test finds those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from django.utils.translation import gettext, gettext_noop

from events import errors

MESSAGES: Final = frozenset(
    {
        gettext_noop("Enter a valid email address."),
        gettext_noop("Another user has this email address."),
        gettext_noop("A user with this id already exists."),
        gettext_noop("There is no such user."),
        gettext_noop("This user was deleted; restore it first."),
        gettext_noop("This user was erased."),
        gettext_noop("This form was erased."),
        gettext_noop("This was erased with all data about the person; it can no longer be changed."),
        gettext_noop("Enter a reason: it stays readable after the erasure."),
        gettext_noop("Enter a reason: required for plan, role and email."),
        gettext_noop("Enter a reason: required for quotas."),
        gettext_noop("Enter a reason: it is required for this change."),
        gettext_noop("The owner was deleted: restore the user first."),
        gettext_noop("This form was deleted: restore it first."),
        gettext_noop("This form is archived: it accepts no more submissions."),
        gettext_noop("Choose another id: UUIDs of version 5 are reserved for ids that the server derives."),
        gettext_noop("A form needs a title."),
        gettext_noop("A form with this id already exists."),
        gettext_noop("There is no such form."),
        gettext_noop("This form was deleted; restore it first."),
        gettext_noop("A submission with this id already exists."),
        gettext_noop("There is no such submission."),
        gettext_noop("This submission was deleted."),
        gettext_noop("This submission was erased."),
        gettext_noop("There is no such setting."),
        gettext_noop("This person cannot resolve this conflict."),
        gettext_noop("Use lower-case letters, digits, dots, dashes, underscores."),
        gettext_noop("A rule needs a title."),
        gettext_noop("A rule with this id already exists."),
        gettext_noop("There is no such rule."),
        gettext_noop("This rule was deleted; restore it first."),
        gettext_noop("Enter the name of a metric, such as cpu.percent."),
        gettext_noop("Enter a name, * for an alert of each target, or nothing for the worst one."),
        gettext_noop("Enter a number."),
        gettext_noop("Use lower-case letters, digits and underscores."),
        gettext_noop("Each step of the escalation must be later than the one before."),
        gettext_noop("Enter a warning level, a critical level or both."),
        gettext_noop("The critical level must lie beyond the warning level."),
        gettext_noop("The clear level must not lie beyond the first level."),
        gettext_noop("A share needs a period longer than 0 seconds."),
        gettext_noop("Enter the purpose of the silence."),
        gettext_noop("A silence with this id already exists."),
        gettext_noop("There is no such silence."),
        gettext_noop("This silence was deleted; restore it first."),
        gettext_noop("Weekdays are numbers from 1 (Monday) to 7 (Sunday)."),
        gettext_noop("Enter a time such as 02:30."),
        gettext_noop("Enter a time zone such as Europe/Paris."),
        gettext_noop("The end must be after the beginning."),
        gettext_noop("Enter when the silence ends."),
        gettext_noop("The end must differ from the beginning."),
        gettext_noop("Choose at least one weekday."),
        gettext_noop("This episode of the alert is over."),
        gettext_noop("This alert was closed."),
        gettext_noop("There is no such alert."),
        gettext_noop("Enter a time within the next seven days."),
        gettext_noop("There is no such conflict."),
        gettext_noop("Enter a comment."),
        gettext_noop("A reason has at most 200 characters."),
        gettext_noop("This conflict was resolved: restore the version you want from the record's history."),
        gettext_noop("Some values cannot be accepted: `fields` has one message per field."),
        gettext_noop("The record's rules do not allow this change."),
        gettext_noop("There is no such record."),
        gettext_noop("already exists"),
        gettext_noop("Someone else changed the same fields since this record was opened."),
        gettext_noop("This command id was already used for a different command."),
        gettext_noop("The database cannot be reached; nothing was stored."),
        gettext_noop("This list takes too long. Narrow the filters, search for a longer word, or sort by date."),
        gettext_noop("The task queue does not respond; nothing was started. Try again when it is back."),
        gettext_noop("There is no such subscription."),
        gettext_noop("These figures are not computed yet. Try again in five minutes."),
        gettext_noop("Send either range, or from and to."),
        gettext_noop("from and to belong together: send both dates."),
        gettext_noop("range is a whole number from 1 and m, h, d or y, such as 90m, 24h, 7d or 1y."),
        gettext_noop("range is at most a year."),
        gettext_noop("from is after to."),
        gettext_noop("from and to are at most a year apart."),
        gettext_noop("Choose theirs, mine or a value."),
        gettext_noop("There is no conflict here."),
        gettext_noop("Another item has the same value."),
        gettext_noop("This refers to an item that does not exist."),
        gettext_noop("These items contain each other."),
        gettext_noop("A text holds a NUL character, which PostgreSQL cannot store."),
        gettext_noop("Text must not contain the character U+0000 (NUL)."),
        gettext_noop("Text must not contain half of a surrogate pair."),
        gettext_noop("This database is a standby: how far the log can be read is only known on the primary."),
    }
)

# Pattern of a message that contains values -> the message with named placeholders.
PATTERNS: Final = (
    (
        r"Positions (?P<low>\d+) to (?P<high>\d+) are archived in (?P<file>\S+), which cannot be read .*",
        gettext_noop("Events %(low)s to %(high)s are archived in %(file)s, which cannot be read."),
    ),
    (
        r"Remove the invisible character (?P<character>\S+) from the email address\.",
        gettext_noop("Remove the invisible character %(character)s from the email address."),
    ),
    (
        r"The year must be between (?P<first>\d+) and (?P<last>\d+)\.",
        gettext_noop("The year must be between %(first)s and %(last)s."),
    ),
    (
        r"Enter at most (?P<most>\d+) names of at most (?P<length>\d+) characters\.",
        gettext_noop("Enter at most %(most)s names of at most %(length)s characters."),
    ),
    (r"Enter at most (?P<most>\d+) names\.", gettext_noop("Enter at most %(most)s names.")),
    (r"An escalation has at most (?P<most>\d+) steps\.", gettext_noop("An escalation has at most %(most)s steps.")),
    (r"(?P<name>.+) is no name of a rule or target\.", gettext_noop("%(name)s is no name of a rule or target.")),
    (
        r"(?P<parameter>from|to) is a date such as 2026-01-31\.",
        gettext_noop("%(parameter)s is a date such as 2026-01-31."),
    ),
    (r"A form has at most (?P<most>\d+) fields\.", gettext_noop("A form has at most %(most)s fields.")),
    (r"Field (?P<number>\d+) needs an id \(text\)\.", gettext_noop("Field %(number)s needs an id (text).")),
    (r"Two fields share the id (?P<id>.+)\.", gettext_noop("Two fields share the id %(id)s.")),
    (r"Field (?P<id>.+) needs a type\.", gettext_noop("Field %(id)s needs a type.")),
    (r"The label of field (?P<id>.+) must be text\.", gettext_noop("The label of field %(id)s must be text.")),
    (
        r"(?P<table>\w+) is being rebuilt by (?P<owner>.+)\.",
        gettext_noop("%(table)s is being rebuilt by %(owner)s."),
    ),
    (
        r"This application does not own (?P<table>\w+): its owner runs rebuild_projection \w+\.",
        gettext_noop("This application does not own %(table)s: its owner runs rebuild_projection %(table)s."),
    ),
    (
        r"No rebuild of (?P<table>\w+) can be stopped now\.",
        gettext_noop("No rebuild of %(table)s can be stopped now."),
    ),
    (
        r"The rebuild of (?P<table>\w+) cannot be stopped just now; try again\.",
        gettext_noop("The rebuild of %(table)s cannot be stopped right now; try again."),
    ),
    (
        r"This has (?P<n>[\d,]+) characters; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("Too long: %(n)s characters; at most %(most)s are accepted."),
    ),
    (
        r"This is nested (?P<n>[\d,]+) levels deep; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("Nested too deeply: %(n)s levels; at most %(most)s are accepted."),
    ),
    (
        r"This has a list of (?P<n>[\d,]+) entries; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("A list is too long: %(n)s entries; at most %(most)s are accepted."),
    ),
    (
        r"This has a text of (?P<n>[\d,]+) characters; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("A text is too long: %(n)s characters; at most %(most)s are accepted."),
    ),
    (
        r"There are (?P<n>[\d,]+) answers; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("There are %(n)s answers; at most %(most)s are accepted."),
    ),
    (
        r"Field (?P<id>.+) has an id or a type that is too long\.",
        gettext_noop("Field %(id)s has an id or a type that is too long."),
    ),
    (
        r"Field (?P<id>.+) is nested (?P<n>[\d,]+) levels deep; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("Field %(id)s is nested %(n)s levels deep; at most %(most)s are accepted."),
    ),
    (
        r"Field (?P<id>.+) has a list of (?P<n>[\d,]+) entries; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("Field %(id)s has a list of %(n)s entries; at most %(most)s are accepted."),
    ),
    (
        r"Field (?P<id>.+) has a text of (?P<n>[\d,]+) characters; at most (?P<most>[\d,]+) are accepted\.",
        gettext_noop("Field %(id)s has a text of %(n)s characters; at most %(most)s are accepted."),
    ),
    (
        r"This is not JSON: .* at line (?P<line>\d+), column (?P<column>\d+)\.",
        gettext_noop("Invalid JSON at line %(line)s, column %(column)s."),
    ),
    (r"This is not UTF-8: byte (?P<number>\d+)\.", gettext_noop("Invalid UTF-8 at byte %(number)s.")),
    (
        r"This JSON has (?P<size>[\d,]+) bytes; at most (?P<most>[\d,]+)\.",
        gettext_noop("This JSON has %(size)s bytes; at most %(most)s are accepted."),
    ),
    (
        r"This JSON is nested more than (?P<most>\d+) levels deep\.",
        gettext_noop("This JSON is nested more than %(most)s levels deep."),
    ),
    (r"The key (?P<key>.+) occurs twice in one object\.", gettext_noop("The key %(key)s occurs twice in one object.")),
    (
        r"The number (?P<number>.+) is too large; send it as text\.",
        gettext_noop("The number %(number)s is too large; put it in quotes, as text."),
    ),
    (r"(?P<name>\S+) is not a JSON number\.", gettext_noop("%(name)s is not a JSON number.")),
    (
        r"\w+ has (?P<size>[\d,]+) bytes; at most (?P<most>[\d,]+)\.",
        gettext_noop("Too large: %(size)s bytes; at most %(most)s are accepted."),
    ),
    (
        r"The event (?P<stream>\S*).* cannot be read \(\w+\)\.",
        gettext_noop("An event of %(stream)s cannot be read, so nothing can be changed. See its history."),
    ),
    (r"This record is at version (?P<version>\d+)\.", gettext_noop("This record is at version %(version)s.")),
    (
        r"The key '(?P<key>[^']+)' of PRIVACY_KEYS is not the one .*",
        gettext_noop(
            "Personal data cannot be read or written: the master key “%(key)s” is not the one it was encrypted with. "
            "An operator has to put the right key back into PRIVACY_KEYS."
        ),
    ),
    (
        r"PRIVACY_KEYS lacks the key '(?P<key>[^']+)', .*",
        gettext_noop(
            "Personal data cannot be read: the master key “%(key)s” is not configured. "
            "An operator has to put it back into PRIVACY_KEYS."
        ),
    ),
)


def translate(text: str) -> str:
    """Translates one domain message into the active language."""
    if text in MESSAGES:
        return gettext(text)
    for pattern, template in PATTERNS:
        found = re.fullmatch(pattern, text, re.DOTALL)
        if found:
            return gettext(template) % found.groupdict()
    return text


def translate_error(error: errors.EventsError) -> tuple[str, dict[str, str]]:
    """Returns an error's message and its messages by field, in the active language."""
    fields: Mapping[str, str] = getattr(error, "fields", {})
    if not isinstance(fields, Mapping):  # a conflict has names of fields here, not messages
        fields = {}
    return translate(error.message), {name: translate(text) for name, text in fields.items()}


def in_one_line(error: errors.EventsError) -> str:
    message, fields = translate_error(error)
    return " ".join(dict.fromkeys([message, *fields.values()]))
