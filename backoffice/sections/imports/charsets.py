"""Detects the legacy code page of bytes: the one whose language encodes the text in the fewest bits. Pure.

Each language is its letters in the order of their frequency; each code page lists the languages written in it. The cost
of a text is the sum over its non-ASCII characters of -log2(probability): frequent letters are cheap, letters that the
language lacks, symbols inside words, capitals after small letters and mixed scripts are expensive. The text is refused
when no code page explains it or when two that give different letters explain it equally well.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SAMPLE = 65_536
_ALIEN = 12.0  # cost in bits of a character that the language does not have
_TOLERATED = 8.0  # mean cost above which no language fits
_TOLERATED_EAST = 10.5  # these write two bytes a character
_MARGIN = 4.0  # margin in bits by which the best must win
_FEW = 4  # characters: too few to refuse Western text for

_LATIN = {
    "french": "éàèêçùôîûâïëœüæÿ",
    "german": "üäößé",
    "spanish": "óíáñéúü",
    "portuguese": "ãçáéíóõêâúàôü",
    "italian": "èàòùéìî",
    "catalan": "àéèíóòúçïü",
    "swedish": "äöåéü",
    "danish": "øåæéö",
    "icelandic": "ðáíúéþæöóý",
    "dutch": "ëéïèöüä",
    "polish": "łęąóżśćńź",
    "czech": "íáéěýřšžčůúňťďó",
    "slovak": "áíéčýúžšťľôňäóďĺŕ",
    "hungarian": "áéőíóöüúű",
    "croatian": "čšžćđ",
    "romanian": "ăîâşţșț",
    "turkish": "ışğüçöâîİ",
    "lithuanian": "ėšžųįūčąę",
    "latvian": "āīēšūņļģķčž",
    "estonian": "õäöüšž",
}
_OTHERS = {
    "russian": "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё",
    "ukrainian": "оаинвіртескулдпмзяьбгчйхцжшюїєщфґ",
    "bulgarian": "аиоентрсвлкдпмзгуъбчжщхцшяюфйь",
    "serbian": "аиоенртсјувклдпмзгбчшњћжцљхђфџ",
    "greek": "αοιετσνηυρπκμλωςδγχθφάίόέήύώβξζψϊϋΐΰ",
    "hebrew": "יוהלאברתשמנםעדקחפגטןסצזכךץף",
    "arabic": "ايلمنورتبةعدسفهكقحجأشطصخضذثغإظىءئآؤپچژگ",
    "thai": (
        "านรกเงมยลวดทตสปอบหคนจพชขใไโผธณถศซภฎฐฑฒษฬฮญฉฟฝ"
        "\u0e48\u0e49\u0e35\u0e31\u0e34\u0e37\u0e38\u0e39\u0e33\u0e30\u0e47\u0e4c\u0e36"
    ),
}
_EAST = {
    "japanese": (
        "のにはをたがでてとしれさいるあなかもすまこらりくんよっどきうイルンスアトリクドラタジコマーシカレ名年"
        "日人大一国東京市県区男女性別点前姓氏住所会社様"
    ),
    "chinese": (
        "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后"
        "小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长"
        "知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话儿者向情部正名定女问力机给等几很业最"
        "间新什打便位因重被走电四第门相次东政海口使教西再平真听世气信北少关并内加化由却代军产入先山五太水万市"
        "真京城"
    ),
    "taiwanese": (
        "的一是不了人我在有他這中大來上國個到說們為子和你地出道也時年得就那要下以生會自著去之過家學對可她裡後"
        "小麼心多天而能好都然沒日於起還發成事只作當想看文無開手十用主行方又如前所本見經頭面公同三已老從動兩長"
        "知民樣現分將外但身些與高意進把法此實回二理美點月明其種聲全工己話兒者向情部正名定女問力機給等幾很業最"
        "間新什打便位因重被走電四第門相次東政海口使教西再平真聽世氣信北少關並內加化由卻代軍產入先山五太水萬市"
        "灣臺台"
    ),
    "korean": (
        "이다는에을의가고하한지사기로도은서대자리어인나정시아스일수부전해과를그보만원제구공주상동장선조지습니"
        "까요음안성문신경제영진우김박최"
    ),
}  # fmt: skip
_WEST = (
    "french", "german", "spanish", "portuguese", "italian", "catalan", "swedish", "danish", "dutch", "estonian",
    "icelandic",
)  # fmt: skip
# Code page -> its languages, and the bits by which it must win: more for rarer ones.
_PAGES: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("cp1252", _WEST, 0),
    ("mac_roman", ("french", "german", "spanish", "portuguese", "italian", "swedish", "danish"), 3),
    ("latin-1", ("french", "german", "spanish", "portuguese", "italian", "swedish", "danish"), 4),
    ("cp1250", ("polish", "czech", "slovak", "hungarian", "croatian", "romanian", "german"), 4),
    ("cp1251", ("russian", "ukrainian", "bulgarian", "serbian"), 3),
    ("cp1254", ("turkish",), 4),
    ("cp1253", ("greek",), 4),
    ("cp1255", ("hebrew",), 4),
    ("cp1256", ("arabic",), 4),
    ("cp1257", ("lithuanian", "latvian", "estonian"), 5),
    ("cp874", ("thai",), 4),
    ("cp932", ("japanese",), 4),
    ("gb18030", ("chinese",), 4),
    ("cp950", ("taiwanese",), 4),
    ("cp949", ("korean",), 4),
    ("euc_jp", ("japanese",), 5),
    ("iso8859-2", ("polish", "czech", "slovak", "hungarian", "croatian", "romanian"), 6),
    ("iso8859-5", ("russian", "ukrainian", "bulgarian", "serbian"), 6),
    ("iso8859-7", ("greek",), 6),
    ("koi8-r", ("russian",), 4),
    ("koi8-u", ("ukrainian",), 5),
    ("mac_cyrillic", ("russian", "ukrainian", "bulgarian"), 6),
    ("mac_latin2", ("polish", "czech", "slovak", "hungarian", "croatian"), 7),
    ("cp850", ("french", "german", "spanish", "portuguese", "italian", "swedish", "danish"), 6),
    ("cp852", ("polish", "czech", "slovak", "hungarian", "croatian", "romanian"), 6),
    ("cp857", ("turkish",), 7),
    ("cp866", ("russian",), 5),
)  # fmt: skip
_EASTERN = {encoding for encoding, languages, _ in _PAGES if languages[0] in _EAST}
_TYPOGRAPHY = dict.fromkeys("’‘“”„–—…«»€£°§·¿¡©®™\u00a0²³½", 5.0)
_WIDE_SIGNS = dict.fromkeys("、。，；：？！（）「」『』・ー～“”‘’《》　【】", 6.0)
_UNSEEN = 14.0


class Undecided(Exception):
    """No code page fits the bytes, or several do; the message names them."""


@dataclass(frozen=True, slots=True)
class Guess:
    encoding: str
    bits: float
    mean: float
    text: str


def guess(data: bytes) -> str:
    """Returns the code page of bytes that are not UTF-8. Raises `Undecided`. Reads at most `SAMPLE` bytes of lines."""
    sample = _sample(data)
    guesses = sorted(_guesses(sample), key=lambda g: g.bits)
    if not guesses:
        raise Undecided("the encoding is none that is known; name it with --encoding")
    best = guesses[0]
    for rival in guesses[1:]:
        close = rival.bits - best.bits < _MARGIN and rival.text != best.text
        if close and rival.encoding == "cp1252":
            best = rival
    many = sum(1 for char in best.text if not char.isascii()) > _FEW
    if many and best.mean > (_TOLERATED_EAST if best.encoding in _EASTERN else _TOLERATED):
        raise Undecided("the letters do not determine the encoding; set it with --encoding")
    rivals = [g.encoding for g in guesses if g.bits - best.bits < _MARGIN and g.text != best.text]
    if many and rivals:
        names = ", ".join([best.encoding, *rivals[:3]])
        raise Undecided(f"the encoding could be one of {names}; name it with --encoding")
    return best.encoding


def _sample(data: bytes) -> bytes:
    """Returns the first lines with bytes beyond ASCII: whole lines, so that no character is cut."""
    lines, size = [], 0
    for found in re.finditer(rb"[^\r\n]*[\x80-\xff][^\r\n]*", data):
        lines.append(found[0][:SAMPLE])
        size += len(lines[-1]) + 1
        if size >= SAMPLE:
            break
    return b"\n".join(lines)


def _guesses(sample: bytes) -> Iterator[Guess]:
    for encoding, languages, prior in _PAGES:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError as error:
            if len(sample) < SAMPLE or error.start < SAMPLE - 8:
                continue
            text = sample[: error.start].decode(encoding)
        seen = _contexts(text)
        bits = min(_cost(seen, language) for language in languages)
        yield Guess(encoding, bits + prior, bits / max(seen.total(), 1), text)


def _contexts(text: str) -> Counter[tuple[str, str, str]]:
    """Counts each non-ASCII character with its two neighbours."""
    padded = f" {text} "
    return Counter(
        (padded[at - 1], padded[at], padded[at + 1])
        for at in (found.start() for found in re.finditer(r"[^\x00-\x7f]", padded))
    )


def _cost(seen: Counter[tuple[str, str, str]], language: str) -> float:
    one = _east_cost if language in _EAST else _latin_cost if language in _LATIN else _script_cost
    return sum(times * one(*around, language) for around, times in seen.items())


def _latin_cost(before: str, char: str, after: str, language: str) -> float:
    bits = _letter_bits(char, language)
    if bits is None:
        return _sign_cost(before, char, after)
    alone = not char.isupper() and not _plain(before) and not _plain(after)
    return bits + _case_cost(before, char, after) + (3.0 if alone else 0.0)


def _script_cost(before: str, char: str, after: str, language: str) -> float:
    bits = _letter_bits(char, language)
    if bits is None:
        return _sign_cost(before, char, after)
    mixed = _plain(before) or _plain(after)
    return bits + _case_cost(before, char, after) + (6.0 if mixed else 0.0)


def _east_cost(_before: str, char: str, _after: str, language: str) -> float:
    common = _ranks(_EAST[language]).get(char)
    if common is not None:
        return 7.0
    if char in _WIDE_SIGNS or "\uff01" <= char <= "\uff5e":
        return _WIDE_SIGNS.get(char, 9.0)
    return 10.0 if _in_first_level(char, language) else 2 * _UNSEEN


@lru_cache(maxsize=65_536)
def _in_first_level(char: str, language: str) -> bool:
    """Returns whether the national standard has the character in its level for everyday use."""
    encoding, (first, last) = _FIRST_LEVELS[language]
    try:
        lead = char.encode(encoding)[0]
    except UnicodeEncodeError:
        return False
    halfwidth = "\uff61" <= char <= "\uff9f"
    return first <= lead <= last and not halfwidth and (language != "korean" or "가" <= char <= "힣")


_FIRST_LEVELS = {
    "japanese": ("euc_jp", (0xA4, 0xCF)),
    "chinese": ("gb2312", (0xB0, 0xD7)),
    "taiwanese": ("big5", (0xA4, 0xC6)),
    "korean": ("euc_kr", (0xB0, 0xC8)),
}


def _letter_bits(char: str, language: str) -> float | None:
    letters = _ranks(_LATIN.get(language) or _OTHERS[language])
    small = "ı" if char == "ı" else char.lower()
    rank = letters.get(char, letters.get(small))
    if rank is None:
        return None
    return math.log2((rank + 2.0) * math.log(len(letters) + 1)) + (1.5 if char != small else 0.0)


@lru_cache(maxsize=64)
def _ranks(letters: str) -> dict[str, int]:
    return {letter: rank for rank, letter in reversed(list(enumerate(letters)))}


def _case_cost(before: str, char: str, after: str) -> float:
    if char.isupper() and before.islower():
        return 6.0
    return 2.0 if char.islower() and before.isupper() and after.isupper() else 0.0


def _sign_cost(before: str, char: str, after: str) -> float:
    inside = before.isalpha() and after.isalpha() and char not in "’·"
    if char in _TYPOGRAPHY and not inside:
        return _TYPOGRAPHY[char] + (8.0 if char in "£€©®§²³½" and (after.isalpha() or before.isalpha()) else 0.0)
    rare = unicodedata.category(char) in ("Cc", "Cn", "Co", "So", "Sm")
    return _ALIEN + (4.0 if rare else 0.0)


def _plain(char: str) -> bool:
    return char.isascii() and char.isalpha()
