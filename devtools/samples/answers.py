"""Answers of one person to the fields of any form, imported ones included.

The subject of a field is derived from its id, else from its type. All answers of a person share one mood: a person who
gives one star also writes a critical text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

import msgspec

from devtools.samples import people, prose

JsonDict = dict[str, Any]

ANSWERED: Final = 0.72  # share of the optional questions that a person answers


class Respondent(msgspec.Struct, frozen=True):
    """A respondent: `mood` from 0 (angry) to 1 (delighted), and the time of the answers."""

    who: people.Person
    mood: float
    now: datetime
    rng: Random

    @property
    def tone(self) -> str:
        return "bad" if self.mood < 0.25 else "mixed" if self.mood < 0.55 else "good"


def respondent(rng: Random, now: datetime, *, french: bool = False) -> Respondent:
    """A random respondent; moods are skewed: most are content, a few are very angry."""
    mood = rng.betavariate(5, 2) if rng.random() < 0.85 else rng.betavariate(1.2, 5)
    return Respondent(people.respondent(rng.getrandbits(32), french=french), mood, now, rng)


def fill_in(fields: Sequence[Any], person: Respondent) -> JsonDict:
    """Answers to the visible fields: all required ones and most of the others.

    Fields of unknown types, such as headings, get no answer.
    """
    given: JsonDict = {}
    for field in fields:
        answer = ANSWERS.get(field.get("type", ""))
        if answer is None or field.get("hidden") or not is_shown(field, given):
            continue
        if field.get("required") or person.rng.random() < ANSWERED:
            value = answer(field, person)
            if value is not None:
                given[field["id"]] = value
    return given


def is_shown(field: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """True when the earlier answers meet the condition of this field."""
    condition = field.get("if")
    return not condition or given.get(condition.get("field")) == condition.get("is")


# -- one kind of field each -----------------------------------------------------------------------------------------

_FULL_NAMES = ("full_name", "nom_complet", "name", "nom")
_STREETS = ("Mill Lane", "Harbour Street", "Elm Row", "Station Road", "Quay Side", "Orchard Close", "Chapel Hill")


def _text(field: JsonDict, person: Respondent) -> str:
    if field["id"] in _FULL_NAMES:
        return f"{person.who.first_name} {person.who.last_name}"
    if field["id"] == "first_name":
        return person.who.first_name
    if field["id"] == "address":
        return f"{person.rng.randint(1, 120)} {person.rng.choice(_STREETS)}, {person.rng.choice('ABCDEFGH')}-town"
    return prose.line(field["id"], person.rng)


def _long_text(field: JsonDict, person: Respondent) -> str:
    return prose.text(field["id"], person.tone, person.rng)


def _email(_field: JsonDict, person: Respondent) -> str:
    return person.who.email


def _phone(field: JsonDict, person: Respondent) -> str:
    """A telephone number from ranges reserved for fiction in France, the United Kingdom and North America."""
    number = person.rng.randint(0, 99)
    if field["id"] == "telephone":
        return f"+33 1 99 00 12 {number:02}"
    return person.rng.choice((f"+44 20 7946 0{900 + number}", f"+1 202 555 01{number:02}"))


def _url(_field: JsonDict, person: Respondent) -> str:
    mailbox, _, domain = person.who.email.partition("@")
    return f"https://{domain}/{mailbox.replace('.', '-')}"


def _integer(field: JsonDict, person: Respondent) -> int:
    """A random integer; small numbers are far more frequent than large ones, except for ages."""
    low, high = int(field.get("min", 0)), int(field.get("max", 100))
    if field["id"] == "age":
        return min(high, max(low, round(person.rng.gauss(43, 15))))
    return low + int((high - low + 1) * person.rng.random() ** 2.2)


def _number(field: JsonDict, person: Respondent) -> float | int:
    low, high = field.get("min", 0), field.get("max", 1000)
    value = person.rng.triangular(low, high, low + (high - low) * 0.35)
    return round(value, 2) if high < 100 else round(value, -2)


def _boolean(field: JsonDict, person: Respondent) -> bool:
    likely = {"consent": 0.97, "again": person.mood, "allergies": 0.25, "gift": 0.2, "may_contact": 0.35}
    return person.rng.random() < likely.get(field["id"], 0.55)


def _rating(field: JsonDict, person: Respondent) -> int:
    """The mood on the field's scale, with noise; inverted for pain and for the severity of a bug."""
    low, high = int(field.get("min", 1)), int(field.get("max", 5))
    mood = 1 - person.mood if field["id"] in ("douleur", "severity_rating") else person.mood
    return round(min(high, max(low, low + (high - low) * (mood * 1.1 + person.rng.gauss(0, 0.09)))))


def _date(field: JsonDict, person: Respondent) -> str:
    match field.get("direction"):
        case "birth":
            days = -int(365.25 * min(90, max(6, person.rng.gauss(38, 16))))
        case "future":
            days = 3 + int(person.rng.expovariate(1 / 40))
        case _:
            days = -int(person.rng.expovariate(1 / 10))
    return (person.now + timedelta(days=days)).date().isoformat()


def _datetime(field: JsonDict, person: Respondent) -> str:
    hours = person.rng.expovariate(1 / 30) * (1 if field["id"] == "arrival" else -1)
    moment = (person.now + timedelta(hours=hours)).replace(
        minute=person.rng.randrange(0, 60, 5), second=0, microsecond=0
    )
    return moment.isoformat().replace("+00:00", "Z")


def _single_choice(field: JsonDict, person: Respondent) -> Any:
    options = field.get("options") or []
    return person.rng.choices(options, _weights(field, len(options)))[0] if options else None


def _multiple_choice(field: JsonDict, person: Respondent) -> list[Any] | None:
    """Choose each option with its own probability, at least one; "none of these" excludes the others."""
    options = field.get("options") or []
    if not options:
        return None
    chosen = [
        option
        for option, weight in zip(options, _weights(field, len(options)), strict=True)
        if person.rng.random() < weight
    ] or [person.rng.choice(options)]
    alone = [option for option in chosen if str(option) in ("Aucun", "Nothing yet")]
    return alone[:1] or chosen


def _weights(field: JsonDict, count: int) -> list[float]:
    """The popularity of each option, the same for all people: a function of the field and the option's index."""
    noise = hashlib.blake2b(f"{field['id']}:{field.get('label')}".encode(), digest_size=16).digest()
    return [
        (0.25 + noise[number % 16] / 400) * (0.3 if number >= 3 and number == count - 1 else 1)
        for number in range(count)
    ]


def _matrix(field: JsonDict, person: Respondent) -> JsonDict | None:
    options = field.get("options") or []
    if not options:
        return None
    top = len(options) - 1
    places = {row["id"]: person.mood * top + person.rng.gauss(0.3, 0.7) for row in field.get("rows", ())}
    return {row: options[round(min(top, max(0, place)))] for row, place in places.items()}


def _ranking(field: JsonDict, person: Respondent) -> JsonDict:
    """Rank all options; the first options of the form are a little more popular."""
    rows = [row["id"] for row in field.get("rows", ())]
    order = sorted(rows, key=lambda row: rows.index(row) * 0.3 + person.rng.random())
    return {row: order.index(row) + 1 for row in rows}


ANSWERS: Final[Mapping[str, Callable[[JsonDict, Respondent], Any]]] = {
    "text": _text,
    "long_text": _long_text,
    "email": _email,
    "phone": _phone,
    "url": _url,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "rating": _rating,
    "date": _date,
    "datetime": _datetime,
    "single_choice": _single_choice,
    "multiple_choice": _multiple_choice,
    "matrix": _matrix,
    "ranking": _ranking,
}
