"""Recognises other file formats by their first bytes, and explains how to get a CSV file. Pure."""

from __future__ import annotations

import codecs
import re

_EXCEL = "in Excel choose File > Save As > “CSV UTF-8 (Comma delimited)”"
_CALC = "in LibreOffice choose File > Save As > “Text CSV”"
_EXPORT = "export the responses as CSV in the survey tool"

# First bytes -> name of the format, and how to get CSV.
_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook (.xls)", _EXCEL),
    (b"\x09\x08\x10\x00", "an Excel workbook (.xls)", _EXCEL),
    (b"\x09\x08\x08\x00", "an Excel workbook (.xls)", _EXCEL),
    (b"ID;PWXL", "an Excel file in SYLK format", _EXCEL),
    (b"%PDF-", "a PDF document", _EXPORT),
    (b"{\\rtf", "a rich text document", _EXPORT),
    (b"\x1f\x8b", "a gzip archive", "unpack it and import the CSV file in it"),
    (b"BZh", "a bzip2 archive", "unpack it and import the CSV file in it"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it and import the CSV file in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and import the CSV file in it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it and import the CSV file in it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it and import the CSV file in it"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"$FL2", "an SPSS file (.sav)", "in SPSS choose File > Export > CSV Data"),
    (b"$FL3", "an SPSS file (.zsav)", "in SPSS choose File > Export > CSV Data"),
    (b"<stata_dta>", "a Stata file (.dta)", "in Stata use “export delimited”"),
    (b"PAR1", "a Parquet file", _EXPORT),
    (b"\x89PNG\r\n", "an image", _EXPORT),
    (b"\xff\xd8\xff", "an image", _EXPORT),
)
# Inside a ZIP archive: a name that only this format has.
_ZIPPED: tuple[tuple[bytes, str, str], ...] = (
    (b"xl/", "an Excel workbook (.xlsx)", _EXCEL),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet (.ods)", _CALC),
    (b"opendocument", "an OpenDocument file", _CALC),
    (b"word/", "a Word document", _EXPORT),
    (b"Index/", "an Apple Numbers spreadsheet", "in Numbers choose File > Export To > CSV"),
)
_TEXTS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (re.compile(r"<\?xml[\s\S]*office:spreadsheet", re.I), "an Excel workbook in XML", _EXCEL),
    (re.compile(r"<(?:!doctype\s+html|html|head|body|table|meta|style|script)\b", re.I), "a web page (HTML)", _EXPORT),
    (re.compile(r"<\?xml[\s\S]*<html\b", re.I), "a web page (HTML)", _EXPORT),
    (re.compile(r"<\?xml\b|<!doctype\b|<!--", re.I), "an XML file", _EXPORT),
    (re.compile(r"\{\s*(?:\"[^\"]*\"\s*:|\})|\[\s*(?:\{|\"|\[\s*[\"\d]|\])"), "a JSON file", _EXPORT),
    (re.compile(r"MIME-Version: ", re.I), "a web archive (MHTML)", _EXCEL),
)
_HEAD = 8192
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def other_than_csv(data: bytes) -> str | None:
    """Returns a sentence that names the format and how to get CSV; None if the file may be CSV."""
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zipped(data)
    for magic, name, advice in _MAGIC:
        if data.startswith(magic):
            return _sentence(name, advice)
    text = _head(data)
    for shape, name, advice in _TEXTS:
        if shape.match(text):
            return _sentence(name, advice)
    return None


def _zipped(data: bytes) -> str:
    """Returns the sentence for a ZIP file.

    The names of its entries, at its start and in the directory at its end, show its format.
    """
    names = data[:_HEAD] + data[-8 * _HEAD :]
    for inside, name, advice in _ZIPPED:
        if inside in names:
            return _sentence(name, advice)
    return _sentence("a ZIP archive", "unpack it and import the CSV file in it")


def _head(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "latin-1")
    head = data[:_HEAD].decode(encoding, "ignore")
    return head.lstrip("\ufeff\xef\xbb\xbf \t\r\n")


def _sentence(name: str, advice: str) -> str:
    return f"this is {name}, not a CSV file; {advice}"
