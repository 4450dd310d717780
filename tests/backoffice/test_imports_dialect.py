"""Bytes to records: encodings, delimiters, quotes, lines."""

from __future__ import annotations

import contextlib
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.imports import dialect

FRENCH = "Prénom;Ville;Préféré\nZoé;Besançon;été\nRené;Nîmes;où ça\n"
CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters='\n",;|\t'), max_size=12)


def records(data: str | bytes, encoding: str | None = None) -> list[list[str]]:
    return dialect.read(data.encode() if isinstance(data, str) else data, encoding).records


def refusal(data: str | bytes, encoding: str | None = None) -> dialect.Refused:
    with pytest.raises(dialect.Refused) as caught:
        records(data, encoding)
    return caught.value


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
        ("latin-1", "cp1252"),
        ("mac_roman", "mac_roman"),
    ],
)
def test_the_encoding_is_found_out(encoding: str, found: str) -> None:
    sheet = dialect.read(FRENCH.encode(encoding))
    assert sheet.encoding == found
    assert sheet.records == [line.split(";") for line in FRENCH.splitlines()]


def test_a_guess_is_called_one() -> None:
    assert dialect.read(FRENCH.encode("cp1252")).guessed
    assert not dialect.read(FRENCH.encode()).guessed
    assert not dialect.read(FRENCH.encode("cp1252"), "cp1252").guessed


def test_typographic_quotes_and_the_euro_sign_of_windows_are_read() -> None:
    assert records("Prix,Avis\n5 €,l’été “beau”\n".encode("cp1252"))[1] == ["5 €", "l’été “beau”"]


def test_a_named_encoding_overrules() -> None:
    assert records("имя,x\nЖанна,1\n".encode("cp1251"), "cp1251")[1] == ["Жанна", "1"]


def test_bytes_outside_the_named_encoding_are_refused_in_place() -> None:
    said = refusal("a,b\n1,é\n".encode("latin-1"), "utf-8")
    assert (said.line, said.character) == (2, 3)


def test_an_unknown_encoding_is_refused() -> None:
    assert "klingon" in str(refusal("a,b\n1,2\n", "klingon"))


def test_good_utf_8_with_one_bad_byte_is_damaged_not_windows() -> None:
    said = refusal("nom,ville\nZoé,Nîmes\n".encode() + b"Ren\xe9,Paris\n")
    assert (said.line, said.character) == (3, 4)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_counts_lines(end: str) -> None:
    sheet = dialect.read(end.join(["a,b", '1,"x', 'y"', "", "2,z", ""]).encode())
    assert sheet.lines == [1, 2, 5]
    assert [record[0] for record in sheet.records] == ["a", "1", "2"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out_among_others_in_the_text(delimiter: str) -> None:
    rows = [["Name", "Well, then; what | now?"], ["a", "yes, no; maybe"], ["b", "x|y"], ["c", "1,5"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    sheet = dialect.read(out.getvalue().encode())
    assert (sheet.delimiter, sheet.records) == (delimiter, rows)


def test_decimal_commas_do_not_hide_semicolons() -> None:
    assert records("poids;taille\n1,5;2,5\n3,5;4,5\n")[1] == ["1,5", "2,5"]


def test_the_delimiter_line_of_excel_is_obeyed_and_counted() -> None:
    sheet = dialect.read(b"sep=;\na;b\n1;2,5\n")
    assert (sheet.records, sheet.lines) == ([["a", "b"], ["1", "2,5"]], [2, 3])


def test_one_column_is_a_table_too() -> None:
    assert records("Comment\nhello\n") == [["Comment"], ["hello"]]


def test_spaces_before_quotes_are_skipped() -> None:
    assert records('a, b\n1, "x, y"\n2, "z"\n')[1] == ["1", "x, y"]


def test_quotes_escaped_by_backslash_are_read() -> None:
    assert records('a,b\n1,"He said \\"hi\\", twice"\n')[1] == ["1", 'He said "hi", twice']


def test_inches_are_no_quotes() -> None:
    assert records("a,b\n1,5'8\"\n")[1] == ["1", "5'8\""]


def test_an_unclosed_quote_is_reported_where_it_opened() -> None:
    said = refusal('a,b\n1,"x\ny"\n2,"never closed\n3,z\n')
    assert (said.line, said.column) == (4, 2)
    assert "never closed" in str(said)


def test_an_unclosed_quote_that_a_later_one_seems_to_close_is_reported_where_it_opened() -> None:
    said = refusal('a,b\n1,x\n2,"oops\n3,"y"\n4,z\n')
    assert (said.line, said.column) == (3, 2)


def test_a_nul_character_is_refused_in_place() -> None:
    said = refusal(b'a,b\n1,x\n2,"y\ny\0z"\n')
    assert (said.line, said.column) == (4, 2)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n \r\n", b"\xff\xfe"])
def test_an_empty_file_is_refused(data: bytes) -> None:
    assert "empty" in str(refusal(data))


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=4, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_csv_writer_writes_is_what_is_read(
    rows: list[list[str]], delimiter: str, end: str, encoding: str
) -> None:
    rows = [["one", "two", "three"], *rows]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    sheet = dialect.read(out.getvalue().encode(encoding))
    assert sheet.records == rows
    assert sheet.delimiter == delimiter


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(dialect.Refused):
        assert dialect.read(data).records
