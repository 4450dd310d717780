"""Exports of survey tools: one question over several columns, several answers in one cell."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backoffice.sections.imports import dialect, groups, notations, rows

CASES = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "cases"


def plan(*lines: str) -> rows.Plan:
    return rows.plan(("\n".join(lines) + "\n").encode())


def written(table: list[list[str]], delimiter: str = ",") -> rows.Plan:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(table)
    return rows.plan(out.getvalue().encode())


def questions_by_label(read: rows.Plan) -> dict[str, dict[str, Any]]:
    """Returns the fields that are questions, by label."""
    return {made.field["label"]: made.field for made in read.fields if not made.field.get("hidden")}


def shape(read: rows.Plan, label: str) -> tuple[str, list[Any], list[str]]:
    field = questions_by_label(read)[label]
    return field["type"], field["options"], [row["label"] for row in field.get("rows", ())]


def answers(read: rows.Plan, key: str) -> list[Any]:
    return [row.answers.get(key) for row in read.rows]


# ── select all that apply ──


def test_redcap_labels_are_one_question() -> None:
    read = plan(
        "Record ID,Age (years),Symptoms (choice=Fever),\"Symptoms (choice=Cough, dry)\",Symptoms (choice='None')",
        "1,31,Checked,Unchecked,Unchecked",
        "2,32,Unchecked,Unchecked,Checked",
        "3,33,Checked,Checked,Unchecked",
        "4,34,Unchecked,Unchecked,Unchecked",
    )
    assert shape(read, "Symptoms") == ("multiple_choice", ["Fever", "Cough, dry", "None"], [])
    assert answers(read, "symptoms") == [["Fever"], ["None"], ["Fever", "Cough, dry"], []]
    assert "Age (years)" in questions_by_label(read)


@pytest.mark.parametrize(
    ("codes", "options"),
    [
        (["1", "2", "3"], ["1", "2", "3"]),
        (["1", "2", "_99"], ["1", "2", "-99"]),
        (["a", "b", "oth"], ["a", "b", "oth"]),
    ],
)
def test_redcap_codes_are_one_question(codes: list[str], options: list[str]) -> None:
    header = ",".join(f"sym___{code}" for code in codes)
    read = plan(f"record_id,{header},age", "1,1,0,0,31", "2,0,0,0,32", "3,0,1,0,33", "4,1,1,0,34", "5,0,0,1,35")
    assert shape(read, "sym") == ("multiple_choice", options, [])
    assert answers(read, "sym")[:4] == [[options[0]], [], [options[1]], options[:2]]


def test_redcap_boxes_without_ticks_are_one_question() -> None:
    read = plan("record_id,sym___1,sym___2,age", "1,0,0,31", "2,0,0,32")
    assert shape(read, "sym") == ("multiple_choice", ["1", "2"], [])
    assert answers(read, "sym") == [[], []]


KOBO = [
    ["start", "end", "crops", "crops/maize", "crops/beans", "crops/sweet_potato", "_uuid", "_submission_time"],
    ["2024-03-01T10:00:00+03:00", "2024-03-01T10:20:00+03:00", "maize beans", "1", "1", "0", "u-1", "2024-03-09T07:01"],
    ["2024-03-02T10:00:00+03:00", "2024-03-02T10:20:00+03:00", "maize", "1", "0", "0", "u-2", "2024-03-09T07:02"],
    ["2024-03-03T10:00:00+03:00", "2024-03-03T10:20:00+03:00", "", "0", "0", "0", "u-3", "2024-03-09T07:03"],
    ["2024-03-04T10:00:00+03:00", "2024-03-04T10:20:00+03:00", "sweet_potato maize", "1", "0", "1", "u-4",
     "2024-03-09T07:04"],
]  # fmt: skip


def test_kobo_joins_and_ticks_the_same_answers_once() -> None:
    read = written(KOBO, ";")
    assert shape(read, "crops") == ("multiple_choice", ["maize", "beans", "sweet_potato"], [])
    assert [column.letter for column in read.fields[0].columns] == ["C", "D", "E", "F"]
    assert answers(read, "crops") == [["maize", "beans"], ["maize"], [], ["maize", "sweet_potato"]]


@pytest.mark.parametrize("group", ["", "farm/", "farm/land/"])
def test_kobo_labels_in_groups_are_one_question(group: str) -> None:
    question = f"{group}Which crops do you grow?"
    table = [
        [f"{group}Name", question, f"{question}/Maize", f"{question}/Beans", f"{question}/Sweet potato", "_uuid"],
        ["Ann", "Maize Sweet potato", "1", "0", "1", "u-1"],
        ["Bob", "Beans", "0", "1", "0", "u-2"],
        ["Cy", "Maize", "1", "0", "0", "u-3"],
    ]
    read = written(table)
    assert shape(read, question) == ("multiple_choice", ["Maize", "Beans", "Sweet potato"], [])
    assert f"{group}Name" in questions_by_label(read)


def test_joined_column_with_more_answers_than_its_boxes_is_kept() -> None:
    read = plan(
        "Which days?,Which days? (Mon),Which days? (Tue),n",
        '"Mon, my own",true,false,1',
        "Tue,false,true,2",
        '"Mon, Tue",true,true,3',
    )
    assert read.rows[0].answers == {"which_days": ["Mon", "my own"], "which_days_2": ["Mon"], "n": 1}


def test_tally_joins_and_ticks_the_same_answers_once() -> None:
    read = plan(
        "Submission ID,Submitted at,Which days?,Which days? (Mon),Which days? (Tue)",
        "s1,2024-03-01 10:00:01,Mon,true,false",
        's2,2024-03-02 10:00:02,"Mon, Tue",true,true',
        "s3,2024-03-03 10:00:03,Tue,false,true",
    )
    assert shape(read, "Which days?") == ("multiple_choice", ["Mon", "Tue"], [])


def test_odk_options_joined_by_spaces_are_split() -> None:
    lines = [f"{crops},u-{n}" for n, crops in enumerate(["maize beans", "maize", "beans", "cassava beans", "cassava"])]
    assert shape(plan("crops,meta-instanceID", *lines), "crops")[0] == "multiple_choice"
    assert shape(plan("crops,n", *lines), "crops")[0] == "text"  # the file does not say that it is from ODK


@pytest.mark.parametrize(
    ("header", "on", "off"),
    [
        ("Q2[{}]", "Y", ""),
        ("Q2[{}]", "Y", "N"),
        ("Which tools? [{}]", "Yes", "No"),
        ("Which tools? [{}]", "Oui", "Non"),
        ("Which tools? [{}]", "Ja", "Nein"),
        ("Which tools? [{}]", "Да", "Нет"),
        ("Which tools? >> {}", "1", "0"),
        ("Which tools? ({})", "Checked", "Unchecked"),
        ("Which tools?: {}", "x", ""),
        ("{}:Which tools?", "1", "0"),
        ("q2/{}", "1", "0"),
    ],
)
def test_boxes_are_one_question_in_every_header_notation(header: str, on: str, off: str) -> None:
    heads = [header.format(option) for option in ("Saw", "Axe", "File")]
    table = [[*heads, "n"], [on, off, off, "1"], [off, on, off, "2"], [on, on, off, "3"], [on, off, off, "4"]]
    read = written(table)
    assert questions_by_label(read)[read.fields[0].field["label"]]["options"] == ["Saw", "Axe", "File"]
    assert answers(read, read.fields[0].field["id"])[2] == ["Saw", "Axe"]


@pytest.mark.parametrize("other", ["Other", "Autre", "Sonstiges", "Otro", "Altro", "Other (please specify)", "その他"])
@pytest.mark.parametrize("texts", [["", "", "", ""], ["", "", "pliers", ""], ["a", "pliers", "b c", "d"]])
def test_other_is_a_text_beside_the_boxes_for_any_number_of_answers(other: str, texts: list[str]) -> None:
    table = [["Own? [Saw]", "Own? [Axe]", f"Own? [{other}]", "n"]]
    boxes = [("Yes", "No"), ("No", "Yes"), ("Yes", "Yes"), ("No", "No")]
    table += [[*pair, text, str(n)] for n, (pair, text) in enumerate(zip(boxes, texts, strict=True))]
    read = written(table)
    assert shape(read, "Own?") == ("multiple_choice", ["Saw", "Axe"], [])
    assert answers(read, read.fields[1].field["id"]) == [text or None for text in texts]
    assert read.fields[1].field["type"] == "text"


@pytest.mark.parametrize("texts", [["", "", ""], ["Scooter", "", ""], ["Scooter", "Boat", "Cart"]])
def test_surveymonkey_options_have_a_text_for_other(texts: list[str]) -> None:
    table = [["Respondent ID", "Which do you own?", "", "", "Age"]]
    table += [["", "Car", "Bike", "Other (please specify)", "Response"]]
    table += [["1", "Car", "", texts[0], "20"], ["2", "", "Bike", texts[1], "30"], ["3", "Car", "Bike", texts[2], "40"]]
    read = written(table)
    assert shape(read, "Which do you own?") == ("multiple_choice", ["Car", "Bike"], [])
    assert answers(read, "which_do_you_own") == [["Car"], ["Bike"], ["Car", "Bike"]]


def test_typeform_options_without_their_question_are_one_question() -> None:
    read = plan("#,Name,Apples,Pears,Other,Score", "a1,N1,Apples,,,1", "a2,N2,,Pears,,2", "a3,N3,Apples,Pears,kiwi,3")
    assert shape(read, "Apples, Pears") == ("multiple_choice", ["Apples", "Pears"], [])


@pytest.mark.parametrize(
    ("tool", "mark"),
    [("Google Forms", ", "), ("Qualtrics, Airtable", ","), ("Nextcloud Forms", "; "), ("Jotform", "\n"), ("Zoho", ";")],
)
def test_options_joined_in_one_cell_are_split(tool: str, mark: str) -> None:
    chosen = [["Car"], ["Bike"], ["Car", "Bike"], ["Bike"], ["Car"], ["Car", "Bike", "Bus"], ["Bus"], ["Bike"]]
    read = written([["Which?", "n"], *([mark.join(cells), str(n)] for n, cells in enumerate(chosen))])
    assert shape(read, "Which?") == ("multiple_choice", ["Car", "Bike", "Bus"], []), tool
    assert answers(read, "which") == chosen


def test_qualtrics_options_may_hold_commas() -> None:
    cells = ["Yes, often", "No", "Yes, often,No", "No", "Yes, often", "No"]
    read = written([["Which?", "n"], *([cell, str(n)] for n, cell in enumerate(cells))])
    assert shape(read, "Which?") == ("multiple_choice", ["Yes, often", "No"], [])


def test_joined_codes_are_split_and_decimals_are_not() -> None:
    cells = ["1", "2", "1,2", "5", "1,2,5", "2,5", "5"]
    read = written([["Which?", "n"], *([cell, str(n)] for n, cell in enumerate(cells))])
    assert answers(read, "which") == [cell.split(",") for cell in cells]
    table = [["Which?", "_uuid"], *([cell.replace(",", " "), f"u-{n}"] for n, cell in enumerate(cells))]
    assert answers(written(table), "which") == [cell.split(",") for cell in cells]
    for decimals in (["1", "1", "1,5", "yes"], ["1,5", "2,5", "1"], ["1,234,567", "2,345,678", "1,000"]):
        read = written([["Which?", "n"], *([cell, str(n)] for n, cell in enumerate(decimals))])
        assert questions_by_label(read)["Which?"]["type"] != "multiple_choice"


def test_texts_under_other_in_a_joined_cell_are_answers_and_no_options() -> None:
    usual = ["Red", "Blue", "Red, Blue", "Green", "Green, Red", "Blue"] * 5
    cells = [*usual, "Red, a kind of teal", "something like mauve"]
    read = written([["Which?", "n"], *([cell, str(n)] for n, cell in enumerate(cells))])
    assert shape(read, "Which?") == ("multiple_choice", ["Red", "Blue", "Green"], [])
    assert answers(read, "which")[-2:] == [["Red", "a kind of teal"], ["something like mauve"]]


@pytest.mark.parametrize(
    "cells",
    [
        ["Never, but open to it", "Never, and not open to it", "Often"] * 4,
        ["Smith,John", "Miller,Ann", "Lee,Bo"],
        ["I like it, mostly", "No, thanks", "Fine"],
        ["1,5", "2,5", "3,5"],
        ["Paris, France", "Rome, Italy", "Lyon, France"],
    ],
)
def test_commas_in_texts_split_nothing(cells: list[str]) -> None:
    read = written([["Which?", "n"], *([cell, str(n)] for n, cell in enumerate(cells))])
    assert shape(read, "Which?")[0] != "multiple_choice"


# ── matrices and rankings ──


def test_qualtrics_matrix_rows_follow_the_dash() -> None:
    read = plan(
        "StartDate,EndDate,ResponseId,Q5_1,Q5_2,Q3",
        "Start Date,End Date,Response ID,Please rate: - Price,Please rate: - Service - by phone,Why?",
        '"{""ImportId"":""startDate"",""timeZone"":""Europe/Berlin""}","{""ImportId"":""endDate""}",'
        '"{""ImportId"":""_recordId""}","{""ImportId"":""QID5_1""}","{""ImportId"":""QID5_2""}","{""ImportId"":""QID3""}"',
        "2024-03-11 08:00:00,2024-03-11 08:05:30,R_1,Good,Good,a",
        "2024-03-12 08:00:00,2024-03-12 08:05:30,R_2,Bad,Good,b",
        "2024-03-13 08:00:00,2024-03-13 08:05:30,R_3,Good,Bad,c",
    )
    assert shape(read, "Please rate:") == ("matrix", ["Good", "Bad"], ["Price", "Service - by phone"])
    assert read.rows[0].started_at is not None
    assert read.rows[0].started_at.isoformat() == "2024-03-11T07:00:00+00:00"


def test_qualtrics_names_keep_their_zone_with_a_blank_question_text() -> None:
    read = plan(
        "StartDate,Q1,Q2",
        "Start Date,,How old?",
        '"{""ImportId"":""startDate"",""timeZone"":""America/Denver""}","{""ImportId"":""QID1""}","{""ImportId"":""QID2""}"',
        "2024-07-01 10:00:00,x,30",
    )
    assert read.rows[0].started_at is not None
    assert read.rows[0].started_at.isoformat() == "2024-07-01T16:00:00+00:00"


@pytest.mark.parametrize("header", ["Rate [{}]", "Rate >> {}", "Rate: {}", "Rate - {}", "Rate/{}", "Rate ({})"])
def test_rows_of_a_matrix_are_recognised_in_every_header_notation(header: str) -> None:
    table = [[header.format("Crust"), header.format("Sauce"), "n"]]
    table += [[a, b, str(n)] for n, (a, b) in enumerate([("Bad", "Fair"), ("Fair", "Good"), ("Good", "Bad")] * 2)]
    assert shape(written(table), "Rate") == ("matrix", ["Bad", "Fair", "Good"], ["Crust", "Sauce"])


@pytest.mark.parametrize("rows_filled", [1, 2, 3, 6])
def test_matrix_is_recognised_with_few_filled_rows(rows_filled: int) -> None:
    filled = [("Bad", "Fair", ""), ("Fair", "Good", ""), ("Good", "Bad", "Fair")] * 2
    table = [["Rate [Crust]", "Rate [Sauce]", "Rate [Price]", "n"]]
    table += [[*(cells if n < rows_filled else ("", "", "")), str(n)] for n, cells in enumerate(filled)]
    kind, _, labels = shape(written(table), "Rate")
    assert (kind, labels) == ("matrix", ["Crust", "Sauce", "Price"])


def test_ranks_are_a_ranking_with_one_empty_column() -> None:
    read = plan("Rank [A],Rank [B],Rank [C],n", "1,2,,1", "2,1,,2", "1,2,,3", "2,1,,4")
    assert shape(read, "Rank") == ("ranking", [1, 2, 3], ["A", "B", "C"])


def test_scores_that_repeat_in_a_row_are_a_matrix() -> None:
    read = plan("Rate [A],Rate [B],Rate [C],n", "1,2,2,1", "3,3,3,2", "1,2,3,3", "2,2,1,4")
    assert shape(read, "Rate")[0] == "matrix"


def test_limesurvey_columns_of_ranks_are_a_ranking() -> None:
    read = plan(
        "Order [Rank 1],Order [Rank 2],Order [Rank 3],n",
        "Tea,Milk,Beer,1",
        "Milk,Tea,,2",
        "Beer,Milk,Tea,3",
        ",,,4",
    )
    assert shape(read, "Order") == ("ranking", [1, 2, 3], ["Tea", "Milk", "Beer"])
    assert answers(read, "order") == [
        {"tea": 1, "milk": 2, "beer": 3},
        {"milk": 1, "tea": 2},
        {"beer": 1, "milk": 2, "tea": 3},
        None,
    ]


def test_limesurvey_codes_without_brackets_have_a_text_for_other() -> None:
    read = plan("Q2_SQ001,Q2_SQ002,Q2_other,n", "Y,,,1", ",Y,pliers,2", "Y,Y,,3")
    assert shape(read, "Q2") == ("multiple_choice", ["SQ001", "SQ002"], [])
    assert read.rows[1].answers == {"q2": ["SQ002"], "q2_other": "pliers", "n": 2}


def test_limesurvey_scales_side_by_side_are_no_ranking() -> None:
    table = [["Rate [Price][Scale 1]", "Rate [Price][Scale 2]", "n"]]
    table += [["Good", "Often", "1"], ["Bad", "Never", "2"], ["Good", "Never", "3"], ["Good", "Often", "4"]]
    assert all(made.field["type"] != "ranking" for made in written(table).fields)


def test_qualtrics_boxes_have_a_text_for_other() -> None:
    table = [["ResponseId", "Q3_1", "Q3_2", "Q3_3", "Q3_3_TEXT", "Q4"]]
    choice = "Which do you own? - Selected Choice - "
    table += [["Response ID", f"{choice}Car", f"{choice}Bike", f"{choice}Other (please specify)",
               "Which do you own? - Other (please specify) - Text", "Why?"]]  # fmt: skip
    table += [['{"ImportId":"_recordId"}', *(f'{{"ImportId":"QID3_{n}"}}' for n in range(5))]]
    table += [
        ["R1", "Car", "", "", "", "x"],
        ["R2", "", "Bike", "Other (please specify)", "Boat", "y"],
        ["R3", "Car", "Bike", "", "", "z"],
    ]
    read = written(table)
    assert shape(read, "Which do you own?") == ("multiple_choice", ["Car", "Bike", "Other (please specify)"], [])
    assert [row.answers.get("which_do_you_own_other_please_specify_text") for row in read.rows] == [None, "Boat", None]


def test_texts_of_several_boxes_stay_questions_of_their_own() -> None:
    table = [["Child [Name]", "Child [School]", "n"]]
    table += [[f"Name {n}", f"School {n}", str(n)] for n in range(12)]
    assert [made.field["type"] for made in written(table).fields[:2]] == ["text", "text"]


def test_units_in_brackets_make_no_group() -> None:
    read = plan("Height (cm),Height (in),n", "181.5,71.4,a", "170.25,67,b", "165.5,65.2,c")
    assert list(questions_by_label(read)) == ["Height (cm)", "Height (in)", "n"]


def test_versions_are_not_numbers() -> None:
    assert answers(plan("App version,n", "1.9,a", "1.10,b", "1.1,c"), "app_version") == ["1.9", "1.10", "1.1"]
    assert answers(plan("Which,n", "1.9,a", "1.10,b", "1.1,c"), "which") == ["1.9", "1.10", "1.1"]
    assert answers(plan("Price,n", "1.5,a", "12.50,b", "3,c"), "price") == [1.5, 12.5, 3]


# ── any survey, in each notation ──

NAME = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyzéñЖ界"), min_size=3, max_size=9)
BOXES = {
    "LimeSurvey": ("{q} [{o}]", "Yes", "No"),
    "LimeSurvey codes": ("{q}[{o}]", "Y", "N"),
    "REDCap labels": ("{q} (choice={o})", "Checked", "Unchecked"),
    "REDCap raw": ("{q}___{o}", "1", "0"),
    "Jotform": ("{q} >> {o}", "1", "0"),
    "KoBo": ("{q}/{o}", "1", "0"),
    "colon": ("{q}: {o}", "true", "false"),
}


@given(st.data(), st.sampled_from(sorted(BOXES)), st.sampled_from(",;\t"))
def test_any_ticks_are_read_back_in_each_notation(data: st.DataObject, tool: str, delimiter: str) -> None:
    header, on, off = BOXES[tool]
    question, *options = data.draw(st.lists(NAME, min_size=3, max_size=6, unique=True))
    taken = groups.ON | groups.OFF
    assume(not any(groups._FREE.search(option) or option in taken for option in options))
    one_row = st.lists(st.booleans(), min_size=len(options), max_size=len(options))
    ticks = data.draw(st.lists(one_row, min_size=2, max_size=8))
    assume(any(map(any, ticks)))
    table = [["n", *(header.format(q=question, o=option) for option in options), "end of row"]]
    table += [[f"x{n}", *(on if tick else off for tick in row), "z"] for n, row in enumerate(ticks)]
    read = written(table, delimiter)
    assert shape(read, question) == ("multiple_choice", options, [])
    expected = [[option for option, tick in zip(options, row, strict=True) if tick] for row in ticks]
    assert answers(read, read.fields[1].field["id"]) == expected


@given(st.data(), st.sampled_from(["{q} [{o}]", "{q} >> {o}"]))
def test_any_matrix_is_read_back_in_each_sure_notation(data: st.DataObject, header: str) -> None:
    question, *labels = data.draw(st.lists(NAME, min_size=3, max_size=6, unique=True))
    assume(not any(groups._FREE.search(label) for label in labels))
    scale = ["Very bad", "Fair", "Quite good"]
    cell = st.sampled_from(scale)
    table = data.draw(st.lists(st.lists(cell, min_size=len(labels), max_size=len(labels)), min_size=1, max_size=8))
    heads = [header.format(q=question, o=label) for label in labels]
    read = written([["n", *heads], *([f"x{n}", *row] for n, row in enumerate(table))])
    kind, options, given_labels = shape(read, question)
    total = len(table) * len(labels)
    if kind == "multiple_choice":  # one text in each column: then it may be a box
        assert all(len(set(column)) == 1 for column in zip(*table, strict=True))
        return
    assert (kind, given_labels, set(options) <= set(scale)) == ("matrix", labels, True), total
    ids = [row["id"] for row in read.fields[1].field["rows"]]
    assert answers(read, read.fields[1].field["id"]) == [dict(zip(ids, row, strict=True)) for row in table]


@given(st.lists(st.sampled_from(["Which? [A]", "Which? [B]", "q/a", "q/b", "q", "x___1", "x___2", "R >> a", "", "Own"]),
                min_size=1, max_size=7), st.data())  # fmt: skip
def test_each_column_is_in_one_field_for_any_headers(heads: list[str], data: st.DataObject) -> None:
    cell = st.sampled_from(["", "1", "0", "Yes", "No", "a", "b", "a b", "Other", "2024-03-01 10:00:01", "Checked"])
    body = data.draw(st.lists(st.lists(cell, min_size=len(heads), max_size=len(heads)), min_size=1, max_size=6))
    try:
        read = written([heads, *body])
    except dialect.Refused:
        return
    letters = [column.letter for made in read.fields for column in made.columns]
    assert len(letters) == len(set(letters))


# ── cost ──


def test_cost_of_grouping_is_linear_in_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    shaped = groups._shaped

    def counted(run: Any, delimiter: str) -> Any:
        calls[0] += len(run.columns)
        return shaped(run, delimiter)

    monkeypatch.setattr(groups, "_shaped", counted)
    looked_at = []
    for width in (200, 400):
        calls[0] = 0
        table = [[f"q_{n}" for n in range(width)], *([f"{r}w{n}" for n in range(width)] for r in range(3))]
        written(table)
        looked_at.append(calls[0])
    assert looked_at[1] <= 2.5 * looked_at[0]


def test_each_reader_reads_each_header_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]

    def counted(notation: notations.Notation) -> notations.Notation:
        def read(column: Any) -> Any:
            calls[0] += 1
            return notation.read(column)

        return notations.Notation(notation.tools, read, notation.sure)

    monkeypatch.setattr(notations, "NOTATIONS", tuple(map(counted, notations.NOTATIONS)))
    width = 300
    written(
        [["/".join(["a"] * (n % 50 + 1)) for n in range(width)], *([f"{r}w{n}" for n in range(width)] for r in "ab")]
    )
    assert calls[0] <= width * len(notations.NOTATIONS)


@pytest.mark.parametrize("part", [" (choice=", "[", "(a)", " - ", "___a", "a_", ">>", "/", ": ", "a.", "   >"])
def test_header_with_many_marks_is_read_in_linear_time(part: str) -> None:
    read = written([[part * 20_000 + "x", part * 20_000 + "y", "n"], ["1", "2", "z"], ["3", "4", "w"]])
    assert len(read.rows) == 2


# ── the collected cases ──

EXPECTED: dict[str, dict[str, tuple[str, list[Any], list[str]]]] = {
    "02-redcap-labels.csv": {"Symptoms": ("multiple_choice", ["Fever", "Cough, dry", "None"], [])},
    "20-qualtrics-multi.csv": {
        "Which do you own?": ("multiple_choice", ["Car", "Bike", "Bus"], []),
        "Please rate:": ("matrix", ["Good", "Bad"], ["Price", "Service"]),
    },
    "21-redcap-long.csv": {"meds": ("multiple_choice", ["1", "2"], [])},
    "22-kobo-xml.csv": {"crops": ("multiple_choice", ["maize", "beans"], [])},
    "22-kobo-spaceonly.csv": {"crops": ("multiple_choice", ["maize", "beans", "cassava"], [])},
    "31-newline-multi.csv": {"Toppings": ("multiple_choice", ["Ham", "Olives", "Corn"], [])},
    "33-comma-nospace.csv": {"Which": ("multiple_choice", ["Car", "Bike", "Bus"], [])},
    "34-redcap-ok.csv": {"sym": ("multiple_choice", ["1", "2", "3"], [])},
    "34-redcap-neg.csv": {"sym": ("multiple_choice", ["1", "2", "-99"], [])},
    "34-redcap-letters.csv": {"sym": ("multiple_choice", ["a", "b", "oth"], [])},
    "35-ge.csv": {"Rate": ("matrix", ["Bad", "Fair", "Good"], ["Crust", "Sauce"])},
    "36-bracket.csv": {"Symptoms": ("multiple_choice", ["Fever", "Cough"], [])},
    "36-paren.csv": {"Symptoms": ("multiple_choice", ["Fever", "Cough"], [])},
    "F01-limesurvey.csv": {
        "Which tools do you use?": ("multiple_choice", ["Hammer", "Saw"], []),
        "How satisfied are you with …": ("matrix", ["Good", "Bad"], ["Price", "Service"]),
    },
    "F02-qualtrics.csv": {"Please rate:": ("matrix", ["Agree", "Disagree"], ["Price", "Service"])},
    "F04-redcap-raw.csv": {"symptoms": ("multiple_choice", ["1", "2", "3", "-99"], [])},
    "F06-typeform.csv": {"Apples, Pears": ("multiple_choice", ["Apples", "Pears"], [])},
    "F07-surveymonkey.csv": {
        "Which do you own?": ("multiple_choice", ["Car", "Bike"], []),
        "Rate us": ("matrix", ["Good", "Poor"], ["Price", "Service"]),
    },
    "F09-jotform.csv": {
        "Toppings": ("multiple_choice", ["Ham", "Olives", "Corn"], []),
        "Rate": ("matrix", ["Good", "Bad"], ["Crust", "Sauce"]),
    },
    "F10-msforms.csv": {"Which fruit?": ("multiple_choice", ["Apple", "Pear", "Fig"], [])},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_collected_exports_have_the_expected_questions(name: str) -> None:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no collected exports at {CASES} (SHARED_DATA names another place)")
    read = rows.plan(path.read_bytes())
    assert {label: shape(read, label) for label in EXPECTED[name]} == EXPECTED[name]


HELD: dict[str, dict[str, list[Any]]] = {
    "12-numbers.csv": {
        "indian": ["1,23,456", "12,34,567"],
        "long": ["12345678901234567", "98765432109876543"],
        "lead": ["007", "012"],
        "exp": ["1.2E+03", "4.56E+16"],
        "paren": ["(12)", "(3)"],
        "swiss": [1234.5, 12000.0],
    },
    "13-dates.csv": {"es": ["2024-01-15T15:04:05Z", "2024-01-16T04:04:05Z"], "iso_week": ["2024-W03-1", "2024-W03-2"]},
    "14-na-name.csv": {"last_name": ["Null", "NA", "Nan", "Smith"]},
    "14-na-country.csv": {"country": ["NA", "ZA", "BW", "US"], "region_code": ["NA", "EU", "AF", "NA"]},
    "14-na-two-cols.csv": {"last_name": ["Null", "Li", "Ma", "Wu"], "nick": ["Null", "x", "y", "z"]},
    "15-formula.csv": {"name": ['=HYPERLINK("http://x.example","y")', "@SUM(A1)", "'=1+1"]},
    "18-blankrows.csv": {"name": ["Ann", "Bob", "Zed"]},
    "32-version.csv": {"app_version": ["1.9", "1.10", "1.1", "2.0"]},
}


@pytest.mark.parametrize("name", HELD)
def test_collected_texts_are_kept_unchanged(name: str) -> None:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no collected exports at {CASES} (SHARED_DATA names another place)")
    read = rows.plan(path.read_bytes())
    assert {key: answers(read, key) for key in HELD[name]} == HELD[name]


def test_every_collected_export_is_read_or_refused_with_a_reason() -> None:
    if not CASES.is_dir():
        pytest.skip(f"no collected exports at {CASES} (SHARED_DATA names another place)")
    for path in sorted(CASES.iterdir()):
        with contextlib.suppress(dialect.Refused):
            assert rows.plan(path.read_bytes()).rows, path.name
