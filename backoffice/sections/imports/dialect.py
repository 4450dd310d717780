"""Splits bytes into records: encoding, delimiter, lines. Pure; knows nothing of questions or answers.

Data that cannot be read without guessing raises `Refused` with line and column. A legacy encoding and the delimiter are
detected from the whole file; the caller can override the encoding.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from backoffice.sections.imports import charsets, filetypes, titles

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose byte-order mark is a prefix
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = "\t;|,"  # with equal evidence, the one that is rarer in texts wins
_SAMPLE = 262_144
_CELL_LIMIT = 16 * 1024 * 1024
_ENDS = re.compile(r"\r\n|\r|\n")
_REST_OF_QUOTED = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
_EXCEL_SEP = re.compile(r'[\ufeff\r\n]*[ \t]*("?)sep=(.)\1(?:\2*|[ \t]*)(?=\r|\n|$)', re.IGNORECASE)
_ISO_2022_JP = re.compile(rb"\x1b(?:\$[@B]|\([BJ])")
_MARKS = "\ufeff\u00ef\u00bb\u00bf"  # a byte-order mark, and one decoded as Latin-1


class Refused(Exception):
    """The file cannot be imported as it is; nothing was written.

    `line`, `column` (which cell of the row) and, for bytes that are no text, `character` count from 1.
    """

    def __init__(
        self,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        header: str = "",
        character: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.header, self.character = message, line, column, header, character

    def __str__(self) -> str:
        parts = (("line", self.line), ("column", self.column), ("character", self.character))
        place = ", ".join(f"{word} {number}" for word, number in parts if number)
        if place and self.header:
            place += f" (“{self.header}”)"
        return f"{place}: {self.message}" if place else self.message


@dataclass(slots=True)
class Sheet:
    """A file cut into records. `lines[i]` is the line of the file on which `records[i]` begins."""

    encoding: str
    guessed: bool
    delimiter: str
    lines: list[int]
    records: list[list[str]]


def read(data: bytes, encoding: str | None = None) -> Sheet:
    """Cuts a file into records; the text is in Unicode's composed form (NFC). Raises `Refused`."""
    if other := filetypes.other_than_csv(data):
        raise Refused(other)
    text, found, guessed = decode(data, encoding)
    text = _without_marks(text if text.isascii() else unicodedata.normalize("NFC", text))
    if not text.strip():
        raise Refused("the file is empty")
    sep, text = _separator_line(text)
    delimiter, skip_space = (sep, False) if sep else sniff(text)
    lines, records = _records(text, delimiter, skip_space)
    if "\0" in text:
        _refuse_nul(lines, records)
    return Sheet(found, guessed, delimiter, lines, records)


def _without_marks(text: str) -> str:
    """Removes the byte-order marks at the start; joined and twice converted files have several."""
    text = text.lstrip("\ufeff")
    return text[3:].lstrip("\ufeff") if text.startswith(_MARKS[1:]) else text


def _separator_line(text: str) -> tuple[str, str]:
    """Returns the delimiter that Excel's line `sep=;` names, or "", and the text with that line blank.

    The line stays, so that line numbers are correct.
    """
    found = _EXCEL_SEP.match(text)
    if found is None:
        return "", text
    rest = text[found.end() :]
    ends = _ENDS.match(rest)
    after = _without_marks(rest[ends.end() :]) if ends else ""
    blank = "".join(_ENDS.findall(found[0])) + (ends[0] if ends else "")
    return found[2], blank + after


def _refuse_nul(lines: list[int], records: list[list[str]]) -> None:
    for line, record in zip(lines, records, strict=True):
        for column, cell in enumerate(record, start=1):
            if "\0" in cell:
                within = len(_ENDS.findall("".join(record[: column - 1]) + cell[: cell.index("\0")]))
                message = "a NUL character; the file is damaged or not a text file"
                raise Refused(message, line=line + within, column=column)


# ── bytes to text ────────────────────────────────────────────────────────────────────────────────────────────────────


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str, bool]:
    """Returns the text, the encoding's name, and whether it was guessed.

    A byte-order mark decides, then strict UTF-8, then scoring of legacy encodings.
    """
    if encoding:
        return _strictly(data, encoding), encoding, False
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _strictly(data, name), name.removesuffix("-sig"), False
    if wide := _unmarked_utf16(data):
        return _strictly(data, wide), wide, True
    if _ISO_2022_JP.search(data, 0, _SAMPLE):
        return _strictly(data, "iso2022_jp"), "iso2022_jp", True
    try:
        return data.decode("utf-8"), "utf-8", False
    except UnicodeDecodeError as error:
        _refuse_damaged_utf8(data, error)
    try:
        name = charsets.guess(data)
    except charsets.Undecided as error:
        raise Refused(str(error)) from None
    return _strictly(data, name), name, True


def _strictly(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
        text.encode("utf-8")  # a lone surrogate cannot be stored
    except LookupError:
        raise Refused(f"unknown encoding “{encoding}”") from None
    except UnicodeDecodeError as error:
        line, character = _place(_before(data[: error.start], encoding))
        message = f"byte 0x{data[error.start]:02x} is not {encoding}"
        raise Refused(message, line=line, character=character) from None
    except ValueError as error:  # UnicodeError, or a name that no codec can have
        raise Refused(f"the file is not {encoding}: {error}") from None
    return text


def _before(data: bytes, encoding: str) -> str:
    """Decodes the text before a bad byte, to count its lines; some codecs have no replacement character."""
    try:
        return data.decode(encoding, "replace")
    except ValueError:
        return data.decode("latin-1")


def _unmarked_utf16(data: bytes) -> str | None:
    """Detects UTF-16 without a mark: NUL bytes only at even or at odd positions, and plausible text when decoded.

    Western text has a NUL in nearly every other byte; Cyrillic or Chinese only at delimiters and line ends.
    """
    head = data[:65_536]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if min(even, odd) * 10 > max(even, odd) or max(even, odd) * 50 < len(head) or len(data) % 2:
        return None
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    text = head.decode(encoding, "replace")
    strange = sum(1 for char in text if unicodedata.category(char) in ("Cc", "Cn", "Co", "Cs") and char not in "\r\n\t")
    return encoding if strange == 0 and re.search(r"[\r\n]", text) else None


def _refuse_damaged_utf8(data: bytes, error: UnicodeDecodeError) -> None:
    """Raises `Refused` for mostly valid UTF-8 with a few bad bytes, which another encoding would garble."""
    letters = Counter(
        "bad" if "\udc80" <= c <= "\udcff" else "good" for c in _high(data.decode("utf-8", "surrogateescape"))
    )
    if letters["good"] >= max(letters["bad"], 1):
        line, character = _place(data[: error.start].decode("utf-8"))
        message = (
            f"byte 0x{data[error.start]:02x} is not UTF-8 while the rest of the file is; repair it or name the encoding"
        )
        raise Refused(message, line=line, character=character) from None


def _high(text: str) -> list[str]:
    return re.findall(r"[^\x00-\x7f]", text)


def _place(before: str) -> tuple[int, int]:
    """Returns the line and character, from 1, of the text after `before`; CR, LF and CRLF each end a line."""
    ends = _ENDS.split(before)
    return len(ends), len(ends[-1]) + 1


# ── text to records ──────────────────────────────────────────────────────────────────────────────────────────────────


def sniff(text: str) -> tuple[str, bool]:
    """Returns the delimiter that makes the most even table, and whether a space after it is skipped (`a, "b"`).

    A candidate must divide the first record below any title lines. If candidates divide nine of ten records into the
    same number of cells, the one with the most cells wins, otherwise the most even one; a file that none divides has
    one column.
    """
    best, found = (False, 0.0), (",", False)
    for delimiter in _DELIMITERS:
        for skip_space in (False, True):
            if skip_space and f'{delimiter} "' not in text:
                continue
            score = _evenness(text[:_SAMPLE], len(text) > _SAMPLE, delimiter, skip_space)
            if score > best:
                best, found = score, (delimiter, skip_space)
    return found


def _evenness(sample: str, cut: bool, delimiter: str, skip_space: bool) -> tuple[bool, float]:
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, skipinitialspace=skip_space)
    rows = [row for row in reader if row]
    if cut:
        rows.pop()
    widths = [len(row) for row in rows[titles.count(rows) :]]
    if not widths or widths[0] < 2:
        return False, 0.0
    even = widths.count(widths[0]) / len(widths)
    return (True, float(widths[0])) if even >= 0.9 else (False, even)


def _records(text: str, delimiter: str, skip_space: bool) -> tuple[list[int], list[list[str]]]:
    try:
        return _parse(text, delimiter, skip_space)
    except Refused:
        if '\\"' not in text:
            raise
    # Some databases write a quote inside a cell as \" instead of "": same length, so positions stay correct.
    return _parse(text.replace('\\"', '""'), delimiter, skip_space)


def _parse(text: str, delimiter: str, skip_space: bool) -> tuple[list[int], list[list[str]]]:
    csv.field_size_limit(_CELL_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=skip_space)
    lines: list[int] = []
    records: list[list[str]] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                lines.append(line)
                records.append(cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise _fault(text, line, delimiter, skip_space, str(error)) from None
    return lines, records


def _fault(text: str, line: int, delimiter: str, skip_space: bool, error: str) -> Refused:
    """Finds the quote at which the parser failed, in the record that begins on `line`."""
    start = 0
    for _, end in zip(range(line - 1), _ENDS.finditer(text), strict=False):
        start = end.end()
    opened, closed, column = _bad_quote(text, start, delimiter, skip_space)
    if opened is None:
        return Refused(f"cannot be read as CSV: {error}", line=line)
    at_line = _place(text[:opened])[0]
    if closed is None:
        return Refused("a quoted cell opens here and is never closed", line=at_line, column=column)
    where = _place(text[:closed])[0]
    message = f"the quoted cell that opens here ends on line {where} in the middle of a cell; a quote is missing"
    return Refused(message, line=at_line, column=column)


def _bad_quote(text: str, start: int, delimiter: str, skip_space: bool) -> tuple[int | None, int | None, int]:
    """Returns the offsets of the quotes that open and seem to close the broken cell, and the cell's index.

    The second offset is None if no quote closes the cell.
    """
    cell_begins, at, column = True, start, 1
    while at < len(text):
        char = text[at]
        if cell_begins and char == '"':
            end = _REST_OF_QUOTED.match(text, at + 1)
            if end is None:
                return at, None, column
            if end.end() < len(text) and text[end.end()] not in delimiter + "\r\n":
                return at, end.end() - 1, column
            at, cell_begins = end.end(), False
            continue
        column = column + 1 if char == delimiter else 1 if char in "\r\n" else column
        cell_begins = char in delimiter + "\r\n" or (cell_begins and skip_space and char == " ")
        at += 1
    return None, None, column
