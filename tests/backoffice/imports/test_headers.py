"""Header rows, ragged rows, and columns that are not questions."""

from __future__ import annotations

import pytest

from backoffice.sections.imports import dialect, rows

TWO_ROWS = """\
RespondentID,Seen it?,Which ones?,,,Age
,Response,One,Two,Three,Response
11,Yes,One,,Three,18-29
12,No,,Two,,30-44
13,Yes,One,Two,,18-29
"""


def plan(text: str) -> rows.Plan:
    return rows.plan(text.encode())


def labels(text: str) -> list[str]:
    return [made.field["label"] for made in plan(text).fields if not made.field.get("hidden")]


def refusal(text: str) -> dialect.Refused:
    with pytest.raises(dialect.Refused) as caught:
        plan(text)
    return caught.value


def test_two_header_rows_are_recognised_by_blank_ids_and_headers() -> None:
    read = plan(TWO_ROWS)
    assert (read.header_rows, len(read.rows), read.rows[0].line) == (2, 3, 3)
    assert labels(TWO_ROWS) == ["Seen it?", "Which ones?", "Age"]


def test_two_header_rows_are_recognised_without_a_blank_header() -> None:
    assert plan("RespondentID,Sex,Age\n,Response,Open-Ended Response\n1,f,33\n2,m,44\n").header_rows == 2


def test_two_header_rows_are_recognised_without_an_id() -> None:
    text = TWO_ROWS.replace("RespondentID,", "").replace("\n,Resp", "\nResp")
    text = "\n".join(line.split(",", 1)[1] if line[:2] in ("11", "12", "13") else line for line in text.splitlines())
    assert (plan(text).header_rows, labels(text)) == (2, ["Seen it?", "Which ones?", "Age"])


def test_first_respondent_with_many_blanks_is_no_header() -> None:
    read = plan("RespondentID,Seen it?,Age,Why\n11,,,\n12,Yes,30,x\n13,No,40,y\n")
    assert (read.header_rows, len(read.rows)) == (1, 3)


def test_three_header_rows_with_import_ids_name_their_zone() -> None:
    ids = '"{""ImportId"":""s"",""timeZone"":""America/Denver""}","{""ImportId"":""e""}","{""ImportId"":""Q1""}"'
    read = plan(f"StartDate,EndDate,Q1\nStart,End,How old?\n{ids}\n2020-07-01 10:00:00,2020-07-01 16:10:00,33\n")
    assert (read.header_rows, read.rows[0].line) == (3, 4)
    assert [made.field["label"] for made in read.fields] == ["How old?"]
    assert read.rows[0].started_at is not None
    assert read.rows[0].started_at.isoformat() == "2020-07-01T16:00:00+00:00"
    assert read.rows[0].completion_time == 600


def test_second_row_of_words_over_numbers_and_dates_is_a_header() -> None:
    text = "V1,Q1,Q2,Q3\nResponseID,How old?,Born on,Why?\nR_1,33,2001-02-03,x\nR_2,34,2002-02-03,y\n"
    assert (plan(text).header_rows, labels(text)) == (2, ["ResponseID", "How old?", "Born on", "Why?"])


def test_header_has_one_line_and_single_spaces() -> None:
    assert labels('"First\r\n  name\u00a0 of  you",b\nx,y\n') == ["First name of you", "b"]


def test_repeated_headers_have_different_ids() -> None:
    ids = [made.field["id"] for made in plan("Comment,Comment,comment\nfoo,bar,x\nbaz,qux,y\n").fields]
    assert ids == ["comment", "comment_2", "comment_3"]


def test_blank_columns_without_a_header_are_dropped_anywhere() -> None:
    read = plan("a,,b,,\n1,,x,,\n2,,y,,\n")
    assert ([made.field["id"] for made in read.fields], len(read.dropped)) == (["a", "b"], 3)


def test_column_without_a_header_keeps_its_answers() -> None:
    read = plan("a,,b\n1,lorem,x\n2,ipsum,y\n")
    assert read.rows[0].answers == {"a": 1, "column_b": "lorem", "b": "x"}


def test_unnamed_row_number_is_hidden_and_kept() -> None:
    read = plan(",a\n1,x\n2,y\n")
    assert [made.field.get("hidden", False) for made in read.fields] == [False, True]
    assert read.rows[1].answers == {"a": "y", "row_number": 2}


def test_row_names_without_a_header_do_not_shift_the_columns() -> None:
    assert plan('"age","sex"\n"1",30,"M"\n"2",31,"F"\n').rows[0].answers == {"age": 30, "sex": "M", "row_number": 1}


def test_longer_row_is_refused_with_line_and_column() -> None:
    said = refusal('a,b\n1,"x\ny"\n2,y,z\n')
    assert (said.line, said.column) == (4, 3)


def test_blank_cells_beyond_the_header_are_dropped() -> None:
    assert [row.answers for row in plan("a,b\n1,x\n2,y,,\n").rows] == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_short_row_is_padded_when_others_have_a_blank_there() -> None:
    assert plan("a,b,c\n1,x,\n2,y\n3,z,q\n").rows[1].answers == {"a": 2, "b": "y"}


def test_short_row_is_refused_when_no_other_row_has_a_blank_there() -> None:
    said = refusal("a,b,c\n1,x,p\n2,y\n3,z,q\n")
    assert (said.line, said.column, said.header) == (3, 3, "c")


def test_trailing_blanks_that_a_spreadsheet_dropped_throughout_are_padded() -> None:
    assert plan("a,b,c\n1,x\n2,y,q\n3\n").rows[2].answers == {"a": 3}


def test_short_row_with_shifted_cells_is_refused() -> None:
    said = refusal("name,age,city\nAnn,33,\nBob,44,Rome\nEve,Oslo\n")
    assert (said.line, said.column) == (4, 2)


def test_blank_rows_are_skipped_and_reported() -> None:
    read = plan("a,b\n1,x\n,\n\n2,y\n,\n")
    assert ([row.line for row in read.rows], read.blank_rows) == ([2, 5], 2)
    assert any("blank" in warning for warning in read.warnings)


@pytest.mark.parametrize("text", ["a,b\n", "a,b", "RespondentID,a,,\n,One,Two,Three\n"])
def test_header_without_answers_is_refused(text: str) -> None:
    assert "header" in str(refusal(text))


def test_only_delimiters_are_refused() -> None:
    assert "only delimiters" in str(refusal(",,\n,,\n"))
    assert "only delimiters" in str(refusal("sep=;\n"))


def test_id_with_few_values_is_a_question() -> None:
    text = "ID,a\n" + "".join(f"{n % 2},{n}\n" for n in range(20))
    assert plan(text).respondent is None
    assert labels(text) == ["ID", "a"]


def test_title_line_above_the_header_is_skipped_and_reported() -> None:
    read = plan("My survey,,\n,,\nName,Age,City\nAnn,33,Rome\nBob,44,Oslo\n")
    assert read.rows[0].answers == {"name": "Ann", "age": 33, "city": "Rome"}
    assert (read.rows[0].line, any("My survey" in warning for warning in read.warnings)) == (4, True)


def test_question_over_all_its_options_is_no_title_line() -> None:
    read = plan("Which films?,,\nA,B,C\nA,,C\n,B,C\nA,B,\n")
    assert (read.header_rows, read.rows[0].answers) == (2, {"which_films": ["A", "C"]})
