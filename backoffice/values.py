"""Shared values of records and the rules that check them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from backoffice import bounds
from events import errors

Plan = Literal["free", "premium", "enterprise"]
Role = Literal["member", "owner", "partner"]

PLANS: tuple[Plan, ...] = ("free", "premium", "enterprise")
ROLES: tuple[Role, ...] = ("member", "owner", "partner")

Name = Annotated[str, msgspec.Meta(max_length=bounds.NAME)]
Title = Annotated[str, msgspec.Meta(max_length=bounds.TITLE)]

# -- text -----------------------------------------------------------------------------------------------------------

# Characters without a visible shape, besides the categories Cc (control) and Cf (format): the assigned ones of
# Default_Ignorable_Code_Point, and the blank Braille pattern.
_INVISIBLE = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
    | {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
)
# The first two join letters of Persian and of Indian scripts; the second and variation selectors join emoji.
_JOINING = frozenset({0x200C, 0x200D, *range(0xFE00, 0xFE10)})


def is_invisible(character: str) -> bool:
    """Returns whether this is a control character, a formatting character or one without a visible shape."""
    return unicodedata.category(character) in {"Cc", "Cf"} or ord(character) in _INVISIBLE


def normal_text(value: str) -> str:
    """Returns text in Unicode's composed form (NFC), so that equal letters compare equal."""
    return unicodedata.normalize("NFC", value)


def normal_name(value: str) -> str:
    """Normalises a name or title: composed, single spaces, without invisible or direction-changing characters.

    These characters make different names look alike. Joiners, which some scripts and emoji need, stay.
    """
    words = " ".join(value.split())
    if words.isascii() and words.isprintable():
        return words
    kept = (c for c in words if ord(c) in _JOINING or not is_invisible(c))
    return " ".join(normal_text("".join(kept)).split())


# One at sign, no spaces, a dot in the domain: the format of real RFC 5321 mailboxes.
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


def mailbox(address: str) -> str:
    """Returns the common form of all spellings of an e-mail address.

    Trimmed, compatibility-composed (NFKC), lower case, the domain in Unicode instead of Punycode. Never fails: other
    text is normalised as far as possible.
    """
    text = _folded(address.strip())
    if text.isascii() and "xn--" not in text:
        return text
    local, at, domain = text.rpartition("@")
    # Full stops that IDNA (UTS 46) accepts as label separators.
    labels = domain.replace("\u3002", ".").replace("\uff61", ".").split(".")
    return local + at + ".".join(map(_label, labels))


def _folded(text: str) -> str:
    """Lower-cases and composes until neither changes anything: each can undo the other."""
    for _ in range(4):
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
        if folded == text:
            break
        text = folded
    return text


def _label(label: str) -> str:
    """Returns one label of a domain in Unicode; invalid Punycode unchanged."""
    if not label.startswith("xn--"):
        return label
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        encoded = "xn--" + decoded.encode("punycode").decode("ascii")
    except (UnicodeError, ValueError, OverflowError):
        return label
    proper = encoded == label and not decoded.isascii() and _folded(decoded) == decoded
    return decoded if proper else label


def normal_email(value: str) -> str:
    """Returns the `mailbox` form of an address. Raises `ValueError` if it is no address or has invisible characters."""
    trimmed = value.strip()
    if len(trimmed) > 254:  # before checks that take time for each character
        raise ValueError("Enter a valid email address.")
    address = mailbox(trimmed)
    if hidden := next((c for c in trimmed + address if is_invisible(c)), None):
        raise ValueError(f"Remove the invisible character U+{ord(hidden):04X} from the email address.")
    if len(address) > 254 or not _EMAIL.fullmatch(address) or not _is_domain(address.rpartition("@")[2]):
        raise ValueError("Enter a valid email address.")
    return address


def _is_domain(domain: str) -> bool:
    """Returns whether all labels have an ASCII form that fits the DNS. A label that is still Punycode is invalid."""
    for label in domain.split("."):
        if label.startswith("xn--"):
            return False
        if not label.isascii() and len(label.encode("punycode")) > 59:  # 63 with "xn--"
            return False
    return True


# -- time -----------------------------------------------------------------------------------------------------------


FIRST_YEAR, LAST_YEAR = 1900, 9000  # beyond these years PostgreSQL and Python differ


def utc(moment: datetime) -> datetime:
    """Converts to UTC; a datetime without a zone is taken as UTC. Raises `ValueError` for implausible years."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"The year must be between {FIRST_YEAR} and {LAST_YEAR}.")
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)


def utc_or_none(moment: datetime | None) -> datetime | None:
    return None if moment is None else utc(moment)


Rules: TypeAlias = Mapping[str, Callable[[Any], Any]]


def checked(values: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """Applies each field's rule to `values`; raises all errors together as `errors.InvalidCommand`."""
    result, complaints = dict(values), {}
    for name, rule in rules.items():
        if name in result and result[name] is not msgspec.UNSET:
            try:
                result[name] = rule(result[name])
            except ValueError as error:
                complaints[name] = str(error)
    if complaints:
        raise errors.InvalidCommand(fields=complaints)
    return result


def given(command: Any) -> dict[str, Any]:
    """Returns the fields of a command or event that were set: unset is not null."""
    found = {}
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if value is not msgspec.UNSET:
            found[name] = value
    return found


def changes(state: Any, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of `wanted` that differs from the state."""
    return {name: value for name, value in wanted.items() if getattr(state, name) != value}
