"""Time zones as exports write them: offsets, abbreviations, IANA names, long names of several languages. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

_OFFSET = re.compile(r"(?:UTC|GMT)?\s*([+\-−])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)
_IANA = re.compile(r"[A-Za-z_]+/[A-Za-z0-9_+\-/]+")
_WITH_NAME = re.compile(r"(\S.*?)\s*(?:\(([^()]+)\)|\[([^\[\]]+)\])")
_WITH_ABBREVIATION = re.compile(r"([+\-−]\d{1,2}:?(?:\d{2})?) ([A-Z]{2,5})")

# Abbreviation -> hours east of Greenwich.
_ABBREVIATIONS = {
    "Z": 0, "UTC": 0, "GMT": 0, "UCT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MET": 1, "MEST": 2, "MEZ": 1,
    "MESZ": 2, "EET": 2, "EEST": 3, "OEZ": 2, "OESZ": 3, "HNEC": 1, "HAEC": 2, "MSK": 3, "TRT": 3, "BST": 1, "IST": 5.5,
    "IDT": 3, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "AKST": -9,
    "AKDT": -8, "HST": -10, "AST": -4, "ADT": -3, "NST": -3.5, "NDT": -2.5, "HNE": -5, "HAE": -4, "HNP": -8, "HAP": -7,
    "BRT": -3, "BRST": -2, "ART": -3, "CLT": -4, "CLST": -3, "COT": -5, "PET": -5, "VET": -4, "UYT": -3,
    "SAST": 2, "CAT": 2, "EAT": 3, "WAT": 1, "PKT": 5, "NPT": 5.75, "GST": 4, "ICT": 7, "WIB": 7, "WITA": 8, "WIT": 9,
    "SGT": 8, "HKT": 8, "PHT": 8, "MYT": 8, "JST": 9, "KST": 9, "AWST": 8, "ACST": 9.5, "ACDT": 10.5, "AEST": 10,
    "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip
# Abbreviations that mean another zone elsewhere -> their reading here.
AMBIGUOUS = {
    "IST": "India (+05:30)", "BST": "Britain (+01:00)", "CST": "the United States (-06:00)", "AST": "Canada (-04:00)",
    "GST": "the Gulf (+04:00)", "MST": "the United States (-07:00)", "CDT": "the United States (-05:00)",
    "ADT": "Canada (-03:00)", "PST": "the United States (-08:00)",
}  # fmt: skip
_REGIONS = {
    "ET": "America/New_York", "CT": "America/Chicago", "MT": "America/Denver", "PT": "America/Los_Angeles",
    "EASTERN TIME": "America/New_York", "CENTRAL TIME": "America/Chicago", "MOUNTAIN TIME": "America/Denver",
    "PACIFIC TIME": "America/Los_Angeles", "CENTRAL EUROPEAN TIME": "Europe/Paris",
}  # fmt: skip

# Long names: a part of the name -> standard offset, for each language's words around it.
_PLACES = {
    "central european": 1, "central europe": 1, "western european": 0, "eastern european": 2, "eastern": -5,
    "central": -6, "mountain": -7, "pacific": -8, "alaska": -9, "hawaii-aleutian": -10, "atlantic": -4,
    "greenwich mean": 0, "coordinated universal": 0, "moscow": 3, "japan": 9, "korean": 9, "china": 8, "india": 5.5,
    "singapore": 8, "south africa": 2, "argentina": -3, "brasilia": -3, "australian eastern": 10,
    "australian central": 9.5, "australian western": 8, "new zealand": 12, "israel": 2, "gulf": 4, "arabian": 3,
    "mitteleuropäische": 1, "westeuropäische": 0, "osteuropäische": 2,
    "d’europe centrale": 1, "d’europe de l’ouest": 0, "d’europe de l’est": 2, "de l’est nord-américain": -5,
    "de l’est": -5, "du centre nord-américain": -6, "du pacifique nord-américain": -8,
    "de europa central": 1, "de europa occidental": 0, "de europa oriental": 2, "oriental": -5, "del pacífico": -8,
    "da europa central": 1, "da europa ocidental": 0, "da europa oriental": 2, "de brasília": -3,
    "dell’europa centrale": 1, "dell’europa occidentale": 0, "dell’europa orientale": 2,
    "midden-europese": 1, "west-europese": 0, "oost-europese": 2, "środkowoeuropejski": 1,
    "mitt-europeisk": 1, "sentraleuropeisk": 1, "centraleuropæisk": 1, "centraleuropeisk": 1,
}  # fmt: skip
_FRAMES = (
    ("{} standard time", "{} summer time", "{} daylight time"), ("{} normalzeit", "{} sommerzeit"),
    ("heure normale {}", "heure d’été {}"), ("hora estándar {}", "hora de verano {}"),
    ("horário padrão {}", "horário de verão {}"), ("ora standard {}", "ora legale {}"),
    ("{} standaardtijd", "{} zomertijd"), ("czas {} standardowy", "czas {} letni"),
    ("{} normaltid", "{} sommertid", "{} sommartid"),
)  # fmt: skip
_UNIVERSAL = (
    "coordinated universal time", "universal time coordinated", "greenwich mean time", "koordinierte weltzeit",
    "mittlere greenwich-zeit", "temps universel coordonné", "heure moyenne de greenwich", "tiempo universal coordinado",
    "hora del meridiano de greenwich", "tempo coordinato universale", "horário universal coordenado",
    "horário do meridiano de greenwich", "gecoördineerde wereldtijd", "uniwersalny czas koordynowany",
    "всемирное координированное время", "协调世界时", "協定世界時", "협정 세계시",
)  # fmt: skip


def _long_names() -> Iterator[tuple[str, float]]:
    for place, hours in _PLACES.items():
        for standard, *summer in _FRAMES:
            yield standard.format(place), hours
            yield from ((name.format(place), hours + 1) for name in summer)
    yield from (("british summer time", 1), ("irish standard time", 1), ("москва, стандартное время", 3))
    yield from ((name, 0) for name in _UNIVERSAL)


_LONG = dict(_long_names())


@lru_cache(maxsize=1024)
def find(text: str) -> tzinfo | None:
    """Returns the zone named by the text, or None; of two names (`+01:00[Europe/Paris]`) the offset counts."""
    text = text.strip()
    if offset := _OFFSET.fullmatch(text):
        return _offset(offset)
    if found := _ABBREVIATIONS.get(text.upper().strip("()")):
        return timezone(timedelta(hours=found))
    if text.upper().strip("()") in _ABBREVIATIONS:
        return UTC
    if both := _WITH_NAME.fullmatch(text) or _WITH_ABBREVIATION.fullmatch(text):
        return find(both[1])
    return _by_name(text.strip("()[]"))


def _offset(found: re.Match[str]) -> tzinfo | None:
    minutes = int(found[2]) * 60 + int(found[3] or 0)
    if minutes >= 24 * 60 or int(found[3] or 0) > 59:
        return None
    return timezone(timedelta(minutes=minutes if found[1] == "+" else -minutes))


def _by_name(text: str) -> tzinfo | None:
    name = " ".join(text.lower().replace("'", "’").split())
    if name in _LONG:
        return timezone(timedelta(hours=_LONG[name]))
    region = _REGIONS.get(text.upper(), text if _IANA.fullmatch(text) else "")
    try:
        return ZoneInfo(region) if region else None
    except (ValueError, OSError, KeyError):  # zoneinfo raises KeyError for an unknown zone
        return None
