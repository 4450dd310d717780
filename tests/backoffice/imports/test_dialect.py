"""Reading the bytes of a file as records: encodings, delimiters, quotes, lines."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import os
import unicodedata
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.sections.imports import charsets, dialect, headers, rows

FRENCH = "Prénom;Ville;Préféré\nZoé;Besançon;été\nRené;Nîmes;où ça\n"
CASES = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "cases"
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
def test_encoding_is_detected(encoding: str, found: str) -> None:
    sheet = dialect.read(FRENCH.encode(encoding))
    assert sheet.encoding == found
    assert sheet.records == [line.split(";") for line in FRENCH.splitlines()]


def test_guessed_encoding_is_reported_as_a_guess() -> None:
    assert dialect.read(FRENCH.encode("cp1252")).guessed
    assert not dialect.read(FRENCH.encode()).guessed
    assert not dialect.read(FRENCH.encode("cp1252"), "cp1252").guessed


def test_typographic_quotes_and_the_euro_sign_of_windows_are_read() -> None:
    assert records("Prix,Avis\n5 €,l’été “beau”\n".encode("cp1252"))[1] == ["5 €", "l’été “beau”"]


def test_given_encoding_overrides_detection() -> None:
    assert records("имя,x\nЖанна,1\n".encode("cp1251"), "cp1251")[1] == ["Жанна", "1"]


def test_bytes_outside_the_named_encoding_are_refused_with_their_place() -> None:
    said = refusal("a,b\n1,é\n".encode("latin-1"), "utf-8")
    assert (said.line, said.character) == (2, 3)


def test_unknown_encoding_is_refused() -> None:
    assert "klingon" in str(refusal("a,b\n1,2\n", "klingon"))


def test_utf_8_with_one_bad_byte_is_refused_and_not_read_as_windows() -> None:
    said = refusal("nom,ville\nZoé,Nîmes\n".encode() + b"Ren\xe9,Paris\n")
    assert (said.line, said.character) == (3, 4)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_counts_lines(end: str) -> None:
    sheet = dialect.read(end.join(["a,b", '1,"x', 'y"', "", "2,z", ""]).encode())
    assert sheet.lines == [1, 2, 5]
    assert [record[0] for record in sheet.records] == ["a", "1", "2"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_detected_among_others_in_the_text(delimiter: str) -> None:
    rows = [["Name", "Well, then; what | now?"], ["a", "yes, no; maybe"], ["b", "x|y"], ["c", "1,5"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(rows)
    sheet = dialect.read(out.getvalue().encode())
    assert (sheet.delimiter, sheet.records) == (delimiter, rows)


def test_decimal_commas_do_not_hide_semicolons() -> None:
    assert records("poids;taille\n1,5;2,5\n3,5;4,5\n")[1] == ["1,5", "2,5"]


def test_delimiter_line_of_excel_is_applied_and_counted() -> None:
    sheet = dialect.read(b"sep=;\na;b\n1;2,5\n")
    assert (sheet.records, sheet.lines) == ([["a", "b"], ["1", "2,5"]], [2, 3])


def test_single_column_is_a_table() -> None:
    assert records("Comment\nhello\n") == [["Comment"], ["hello"]]


def test_spaces_before_quotes_are_skipped() -> None:
    assert records('a, b\n1, "x, y"\n2, "z"\n')[1] == ["1", "x, y"]


def test_quotes_escaped_by_backslash_are_read() -> None:
    assert records('a,b\n1,"He said \\"hi\\", twice"\n')[1] == ["1", 'He said "hi", twice']


def test_inch_marks_are_not_quotes() -> None:
    assert records("a,b\n1,5'8\"\n")[1] == ["1", "5'8\""]


def test_unclosed_quote_is_reported_where_it_opened() -> None:
    said = refusal('a,b\n1,"x\ny"\n2,"never closed\n3,z\n')
    assert (said.line, said.column) == (4, 2)
    assert "never closed" in str(said)


def test_unclosed_quote_closed_by_a_later_one_is_reported_where_it_opened() -> None:
    said = refusal('a,b\n1,x\n2,"oops\n3,"y"\n4,z\n')
    assert (said.line, said.column) == (3, 2)


def test_nul_character_is_refused_with_its_place() -> None:
    said = refusal(b'a,b\n1,x\n2,"y\ny\0z"\n')
    assert (said.line, said.column) == (4, 2)


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n \r\n", b"\xff\xfe"])
def test_empty_file_is_refused(data: bytes) -> None:
    assert "empty" in str(refusal(data))


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=4, max_size=8),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_reader_inverts_the_csv_writer(table: list[list[str]], delimiter: str, end: str, encoding: str) -> None:
    table = [["one", "two", "three"], *table]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(table)
    sheet = dialect.read(out.getvalue().encode(encoding))
    assert sheet.records == [[unicodedata.normalize("NFC", cell) for cell in row] for row in table]
    assert sheet.delimiter == delimiter


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(dialect.Refused):
        assert dialect.read(data).records


# ── marks and Excel's first line ──


@pytest.mark.parametrize(
    "head",
    [
        "\ufeff",
        "\ufeff\ufeff",
        "\ufeff\ufeff\ufeff",
        "\u00ef\u00bb\u00bf",
        "\ufeff\u00ef\u00bb\u00bf",
        "sep=,\n",
        "sep=,\n\ufeff",
        "\ufeffsep=,\r\n\ufeff\ufeff",
        '"sep=,"\n',
        "sep=,,,\n",
        "SEP=, \n",
    ],
)
def test_marks_and_the_delimiter_line_hide_no_quoted_header(head: str) -> None:
    sheet = dialect.read((head + '"Name, full","Age"\n"Ann","3"\n').encode())
    assert sheet.records == [["Name, full", "Age"], ["Ann", "3"]]
    assert sheet.lines == ([2, 3] if "\n" in head else [1, 2])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_line_is_applied_in_any_encoding(delimiter: str, end: str, encoding: str) -> None:
    text = end.join([f"sep={delimiter}", f"Name{delimiter}Größe", f"Zoé{delimiter}3", ""])
    sheet = dialect.read(text.encode(encoding))
    assert (sheet.delimiter, sheet.records) == (delimiter, [["Name", "Größe"], ["Zoé", "3"]])


def test_byte_order_mark_is_removed_with_a_named_encoding() -> None:
    assert records(b"\xef\xbb\xbfa,b\n1,2\n", "cp1252")[0] == ["a", "b"]


def test_text_is_composed() -> None:
    table = records(unicodedata.normalize("NFD", "Prénom,Ville\nZoé,Évry\n"))
    assert table == [["Prénom", "Ville"], ["Zoé", "Évry"]]


def test_composed_and_decomposed_letters_are_one_option_and_one_row() -> None:
    lines = ["Prénom,Ville", *["Zoé,Nîmes", "Zoé,Évry"] * 3]
    composed, decomposed = ("\n".join(lines), unicodedata.normalize("NFD", "\n".join(lines)))
    mixed = "\n".join(
        [lines[0], *(unicodedata.normalize("NFD" if n % 2 else "NFC", x) for n, x in enumerate(lines[1:]))]
    )
    assert rows.plan(mixed.encode()).fields[0].field["options"] == ["Zoé"]
    one, other = (rows.plan(text.encode()) for text in (composed, decomposed))
    assert [row.identity for row in one.rows] == [row.identity for row in other.rows]
    assert [row.answers for row in one.rows] == [row.answers for row in other.rows]


# ── code pages ──

TEXTS = {
    "russian": "Имя;Город;Оценка\nАнна;Москва;5\nПётр;Казань;4\nОльга;Тверь;3\n",
    "russian sentences": "Как вы оцениваете нашу работу?;Комментарий\nОчень хорошо;Всё понравилось\nплохо;ждали\n",
    "ukrainian": "Ім'я;Місто\nОлександр;Київ\nГанна;Львів\nЇжак;Чернігів\n",
    "polish": "Imię;Miasto\nŁukasz;Łódź\nŻaneta;Kraków\nGrażyna;Gdańsk\n",
    "czech": "Jméno;Město\nJiří;Plzeň\nŽofie;České Budějovice\nDvořák;Ústí\n",
    "hungarian": "Név;Város\nErzsébet;Győr\nÖdön;Székesfehérvár\nJenő;Újpest\n",
    "turkish": "Ad;Şehir\nAyşe;İstanbul\nIşıl;Muğla\nÇağrı;Eskişehir\n",
    "icelandic": "Nafn;Borg\nÞórður;Reykjavík\nSigríður;Ísafjörður\n",
    "greek": "Όνομα;Πόλη\nΓιώργος;Αθήνα\nΜαρία;Θεσσαλονίκη\n",
    "hebrew": "שם,עיר\nדנה,חיפה\nיוסי,תל אביב\n",
    "arabic": "الاسم,المدينة\nمحمد,القاهرة\nفاطمة,دمشق\n",
    "thai": "ชื่อ,เมือง\nสมชาย,กรุงเทพ\nมาลี,เชียงใหม่\n",
    "lithuanian": "Vardas;Miestas\nŽivilė;Šiauliai\nJūratė;Panevėžys\nŲla;Kėdainiai\n",
    "japanese": "名前,都市,点\n山田,東京,5\n鈴木,大阪,4\n",
    "japanese sentences": "お名前,どの都市に住んでいますか\nタナカ,とても良かったです\n鈴木,もう少し安いと嬉しい\n",
    "chinese": "姓名,城市,分\n王芳,北京,5\n李娜,上海,4\n",
    "chinese sentences": "您的姓名,您对服务是否满意\n张伟,非常满意\n刘洋,等待时间太长\n",
    "taiwanese": "姓名,城市,意見\n陳怡君,臺北,很好\n林志明,高雄,服務不錯\n",
    "korean": "이름,도시\n김민수,서울\n이영희,부산\n",
    "german": "Größe;Straße\nMüller;Köln\nÜber;schön\n",
    "spanish": "¿Cómo está?,Año\nMuñoz,sí\nJosé,también\n",
    "danish": "Køn;Alder\nSøren;Århus\nKjær;Tølløse\n",
    "one name": "Name,City\nZoé,Lyon\nAnn,Rome\n",
}
PAGES = [
    *[("russian", page) for page in ("cp1251", "koi8-r", "cp866", "iso8859-5", "mac_cyrillic")],
    *[("russian sentences", page) for page in ("cp1251", "koi8-r", "cp866")],
    *[("ukrainian", page) for page in ("cp1251", "koi8-u")],
    *[(language, page) for language in ("polish", "czech", "hungarian") for page in ("cp1250", "iso8859-2")],
    *[("turkish", page) for page in ("cp1254", "iso8859-9", "cp857")],
    ("icelandic", "cp1252"),
    *[("greek", page) for page in ("cp1253", "iso8859-7")],
    *[("hebrew", page) for page in ("cp1255", "iso8859-8")],
    ("arabic", "cp1256"),
    ("thai", "cp874"),
    ("lithuanian", "cp1257"),
    *[(text, page) for text in ("japanese", "japanese sentences") for page in ("shift_jis", "euc_jp", "iso2022_jp")],
    *[(text, page) for text in ("chinese", "chinese sentences") for page in ("gbk", "gb18030")],
    ("taiwanese", "big5"),
    ("korean", "euc_kr"),
    *[(text, page) for text in ("german", "spanish", "danish") for page in ("cp1252", "mac_roman", "cp850")],
    ("one name", "cp1252"),
]


@pytest.mark.parametrize(("language", "page"), PAGES)
def test_old_code_page_is_detected_and_reported_as_a_guess(language: str, page: str) -> None:
    text = TEXTS[language]
    try:
        data = text.encode(page)
    except UnicodeEncodeError:
        pytest.skip(f"{page} lacks a letter of this text")
    sheet = dialect.read(data)
    assert sheet.guessed
    assert [cell for record in sheet.records for cell in record] == [
        cell for line in text.splitlines() for cell in line.split(sheet.delimiter)
    ]


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(0x80, 0x100)).replace(b"\x85", b"") + b",a\n1,2\n",
        b"a,b\n" + b"\x95\xb2\xd7\xa4\xb9\xb6\xaf\xbe,1\n\xa6\xac\xb1\xd7\xf7\x95,2\n",
    ],
)
def test_letters_of_no_code_page_are_refused_asking_for_the_encoding(data: bytes) -> None:
    assert "--encoding" in str(refusal(data))


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    try:
        encoding = charsets.guess(data + b"\xe9")
    except charsets.Undecided:
        return
    with contextlib.suppress(dialect.Refused):
        dialect.read(data + b"\xe9", encoding)


def test_code_page_is_detected_from_a_part_of_the_file() -> None:
    line = "Анна;Москва\n".encode("cp1251")
    sample = charsets._sample(line * 1_000_000)
    assert len(sample) < charsets.SAMPLE + len(line)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", ["russian", "japanese", "chinese sentences", "german", "hebrew"])
def test_utf_16_without_a_mark_is_read_in_any_script(language: str, encoding: str) -> None:
    sheet = dialect.read(TEXTS[language].encode(encoding))
    assert (sheet.encoding, sheet.guessed) == (encoding, True)
    assert sheet.records[0] == TEXTS[language].splitlines()[0].split(sheet.delimiter)


@pytest.mark.parametrize("encoding", ["base64", "a\0b", "undefined", "idna", "punycode", "zlib", " "])
def test_codec_that_decodes_no_text_is_refused(encoding: str) -> None:
    assert str(refusal("a,b\n1,é\n".encode() + b"\xff", encoding))


# ── other file types ──


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * 300)
    return out.getvalue()


def open_document() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<x/>")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (zipped("[Content_Types].xml", "xl/workbook.xml"), "Excel workbook"),
        (open_document(), "OpenDocument spreadsheet"),
        (zipped("Index/Document.iwa"), "Numbers"),
        (zipped("word/document.xml"), "Word"),
        (zipped("survey.csv"), "ZIP archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "Excel workbook"),
        (gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"<html><body><table><tr><td>a</td></tr></table>", "web page"),
        (b"\xef\xbb\xbf\r\n<!DOCTYPE html>\n<html>", "web page"),
        ("<table><tr>".encode("utf-16"), "web page"),
        (b'<?xml version="1.0"?>\n<responses><r/></responses>', "XML"),
        (
            b'<?xml version="1.0"?><Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet">',
            "Excel workbook in XML",
        ),
        (b'{"responses": [\n{"id": 1, "q": "a"}\n]}', "JSON"),
        (b'[{"id": 1}, {"id": 2}]', "JSON"),
        (b'\n [ ["a", "b"], [1, 2] ]', "JSON"),
        (b'{"id": 1}\n{"id": 2}\n', "JSON"),
        (b"SQLite format 3\x00....", "SQLite"),
        (b"$FL2@(#) SPSS DATA FILE", "SPSS"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"{\\rtf1\\ansi", "rich text"),
        (b"MIME-Version: 1.0\nX-Document-Type: Workbook\n", "web archive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_refused_by_name_with_a_way_to_get_csv(data: bytes, name: str) -> None:
    said = str(refusal(data))
    assert name in said
    assert "CSV" in said


@pytest.mark.parametrize(
    "text",
    [
        "[1] Name,Age\nAnn,3\n",
        "<5,>5\n1,2\n",
        "{name},b\n1,2\n",
        "PK,b\n1,2\n",
        "ID;P\n1;2\n",
        "BZ,b\n1,2\n",
        "[a],[b]\n1,2\n",
    ],
)
def test_headers_that_begin_like_other_files_are_headers(text: str) -> None:
    assert len(records(text)) == 2


# ── title lines ──


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ("Sondage mars 2024", "Name,Age\nAnn,3\nBob,4\n"),
        ("Sondage; mars 2024", "Name,Age\nAnn,3\nBob,4\n"),
        ("Survey of Mars, 2024", "Name,Age,City\nAnn,3,x\nBob,4,y\n"),
        ("Customer pulse,28 Feb 2024 11:42 AM +00:00", "Name,Age,City,Products\nAnn,3,Rome,a;b\nBob,4,Oslo,c\n"),
        ("My survey\nExported on 2024-03-01", "Name,Age\nAnn,3\nBob,4\n"),
        ("My survey,,\n,,", "Name,City,Colour\nAnn,Rome,red\nBob,Oslo,red\n"),
        ("Report, 2024-03-01,,", "Name,Age,City,Why\nAnn,3,Rome,a\nBob,4,Oslo,b\n"),
    ],
)
def test_title_lines_above_the_header_are_skipped_and_reported(above: str, below: str) -> None:
    read = rows.plan(f"{above}\n{below}".encode())
    assert read.rows[0].answers["name"] == "Ann"
    assert read.rows[0].line == len(above.splitlines()) + 2
    assert any("above the header" in warning for warning in read.warnings)


@pytest.mark.parametrize(
    "text",
    [
        "Comment\nyes; no\nwell; then\n",
        "Any comments?\nyes; no\nwell; then\nfine\n",
        "Name,City\nAnn,Rome\nBob,Oslo\n",
        "Name,Age,\nAnn,3,x\nBob,4,y\n",
        "Name,City,\nAnn,Rome,x\nBob,Oslo,y\n",
        '"x","y"\n"Mazda","a","b"\n"Fiat","c","d"\n',
        "Name,Age,,,\nAnn,3,,,\nBob,4,,,\n",
        "Which films?,,\nA,B,C\nA,,C\n,B,C\nA,B,\n",
    ],
)
def test_header_is_no_title_line(text: str) -> None:
    table = headers.read(dialect.read(text.encode()))
    assert not any("above the header" in warning for warning in table.warnings)


# ── the collected cases ──

EXPECTED = {
    "09-cp1250.csv": ["Imię", "Miasto"],
    "09-cp1251.csv": ["Имя", "Город", "Оценка"],
    "09-cp1254.csv": ["Ad", "Şehir"],
    "09-cp1255.csv": ["שם", "עיר"],
    "09-gbk.csv": ["姓名", "城市", "分"],
    "09-koi8.csv": ["Имя", "Город", "Оценка"],
    "09-sjis.csv": ["名前", "都市", "点"],
    "10-bom-after-sep.csv": ["Name; full", "Age"],
    "10-bom-in-quotes.csv": ["Name, full", "Age"],
    "10-double-bom.csv": ["Name, full", "Age"],
    "10-sep-bom.csv": ["Name", "Age"],
    "10-sep-quoted.csv": ["Name", "Age"],
    "10-sep-tab.csv": ["Name", "Age"],
    "10-sep-trailing.csv": ["Name", "Age", "C"],
    "10-sep-utf16.csv": ["Name", "Age"],
    "10-utf16-nobom-ru.csv": ["Имя", "Город", "Оценка"],
    "11-nfc-nfd.csv": ["Prénom", "Prénom", "Ville"],
    "37-title-comma.csv": ["Name", "Age", "City"],
    "37-title-date.csv": ["Name", "Age", "City", "Products"],
    "37-title-plain.csv": ["Name", "Age", "City"],
    "37-title-semicolon.csv": ["Name", "Age"],
}
REFUSED = {
    "07-workbook.xlsx": "Excel",
    "07-workbook-renamed.csv": "Excel",
    "07-html.csv": "HTML",
    "07-json.csv": "JSON",
}


@pytest.mark.parametrize("name", [*EXPECTED, *REFUSED])
def test_collected_files_are_read_in_their_script_or_refused_by_name(name: str) -> None:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no collected exports at {CASES} (SHARED_DATA names another place)")
    if name in REFUSED:
        assert REFUSED[name] in str(refusal(path.read_bytes()))
    else:
        table = headers.read(dialect.read(path.read_bytes()))
        assert [column.header for column in table.columns] == EXPECTED[name]
