"""Inference of types, options, groups and missing answers."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.sections.imports import infer, rows


def plan(header: str, *lines: str) -> rows.Plan:
    return rows.plan("\n".join([header, *lines, ""]).encode())


def field(cells: list[str], header: str = "Question", delimiter: str = ",") -> dict[str, Any]:
    """Returns the field of one column; a second column keeps blank rows from being skipped."""
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    text = "\n".join([f"{header}{delimiter}n", *(f"{cell}{delimiter}k{i}" for i, cell in enumerate(quoted))])
    return rows.plan(text.encode()).fields[0].field


def answers(header: str, *lines: str) -> list[dict[str, Any]]:
    return [row.answers for row in plan(header, *lines).rows]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["lorem", "ipsum", "dolor"], "text"),
        (["a\nb", "c", "d"], "long_text"),
        (["x " * 80, "y", "z"], "long_text"),
        (["1", "22", "-3"], "integer"),
        (["1.5", "2", "0.019744451"], "number"),
        (["1e-05", "2.5"], "number"),
        (["1,5", "2,25"], "number"),
        (["1 234,5", "7"], "number"),
        (["1,234.50", "12.00"], "number"),
        (["01234", "94000"], "text"),
        (["12345678901234567890", "1"], "text"),
        (["12", "abc", "13"], "text"),
        (["1e+999", "2"], "text"),
        (["true", "false", "true"], "boolean"),
        (["a@b.co", "c.d@e.org"], "email"),
        (["https://a.org/x", "www.b.org"], "url"),
        (["+33 1 23 45 67 89", "0612345678"], "phone"),
        (["2024-01-31", "1999-12-01"], "date"),
        (["31.01.2024", "01.02.2024"], "date"),
        (["Jan 5, 2024", "March 31, 2024"], "date"),
        (["5 janvier 2024", "31 août 2024"], "date"),
        (["2024-01-31 10:00", "2024-02-01T11:30:00+02:00"], "datetime"),
        (["30/02/2024", "01/01/2024"], "text"),
        (["Red", "Blue", "Red", "Blue", "Red"], "single_choice"),
        (["Yes", "No"], "single_choice"),
        (["", "", ""], "text"),
    ],
)
def test_column_gets_the_narrowest_type_that_fits_all(cells: list[str], expected: str) -> None:
    assert field(cells)["type"] == expected


def test_full_scale_is_a_rating_and_a_count_is_not() -> None:
    cells = [str(n % 5 + 1) for n in range(20)]
    assert field(cells, "How satisfied are you?") | {"min": 1, "max": 5, "type": "rating"} == field(
        cells, "How satisfied are you?"
    )
    assert field(cells, "Number of children")["type"] == "integer"


def test_decimal_commas_become_numbers() -> None:
    assert answers("a;b", "1,5;x", "12,25;y") == [{"a": 1.5, "b": "x"}, {"a": 12.25, "b": "y"}]


def test_single_thousand_is_read_by_the_delimiter() -> None:
    assert answers("a\tb", "1,234\tx", "2\ty")[0]["a"] == 1.234
    assert answers("a,b", '"1,234",x', "2,y")[0]["a"] == 1234


def test_one_cell_proves_day_first_for_the_whole_file() -> None:
    read = plan("Born,Met", "01/02/2003,03/04/2005", "13/02/2003,05/06/2007")
    assert read.rows[0].answers == {"born": "2003-02-01", "met": "2005-04-03"}
    assert not any("either way" in warning for warning in read.warnings)


def test_one_cell_proves_month_first() -> None:
    assert answers("Born,b", "01/02/2003,x", "02/13/2003,y")[0]["born"] == "2003-01-02"


def test_ambiguous_dates_are_month_first_and_reported() -> None:
    read = plan("Born,b", "01/02/2003,x", "03/04/2005,y")
    assert read.rows[0].answers["born"] == "2003-01-02"
    assert any("month/day" in warning for warning in read.warnings)


def test_ambiguous_dates_beside_semicolons_are_day_first() -> None:
    assert answers("Born;b", "01/02/2003;x", "03/04/2005;y")[0]["born"] == "2003-02-01"


def test_contradicting_dates_stay_text() -> None:
    assert answers("Born,b", "13/02/2003,x", "02/13/2003,y")[0]["born"] == "13/02/2003"


def test_ranges_are_options_in_their_natural_order() -> None:
    cells = ["> 60", "30-44", "18-29", "45-60", "Prefer not to say"] * 3
    assert field(cells)["options"] == ["18-29", "30-44", "45-60", "> 60", "Prefer not to say"]
    assert field(["$150,000+", "$0 - $24,999", "$25,000 - $49,999"] * 3)["options"][-1] == "$150,000+"
    assert field(["Under 5 ft.", "5'10\"", "5'9\""] * 3)["options"] == ["Under 5 ft.", "5'9\"", "5'10\""]


def test_other_options_are_in_order_of_first_use() -> None:
    assert field(["Often", "Never", "Often", "Rarely", "Never", "Rarely"])["options"] == ["Often", "Never", "Rarely"]


# ── missing ──


def test_na_is_missing_in_a_column_of_numbers() -> None:
    assert answers("a,b", "1,x", "NA,y", "3,z")[1] == {"b": "y"}


def test_na_is_missing_in_a_file_without_blanks() -> None:
    read = plan("a,b", "x,NA", "NA,y", "z,w")
    assert (read.rows[0].answers, read.missing["NA"]) == ({"a": "x"}, 2)


def test_na_beside_blanks_is_an_answer() -> None:
    assert answers("a,b", "x,N/A", "N/A,y", ",w")[1] == {"a": "N/A", "b": "y"}


def test_na_is_namibia_among_country_codes() -> None:
    assert answers("code,other", "NA,x", "FR,NA", "DE,y")[0] == {"code": "NA", "other": "x"}


@pytest.mark.parametrize("option", ["No answer", "None", "Unknown", "Not applicable", "0"])
def test_real_options_are_never_missing(option: str) -> None:
    assert answers("a,b", f"{option},{option}", "x,y", "z,w")[0] == {"a": option, "b": option}


# ── groups ──


def test_numbered_columns_with_not_selected_are_one_select_all_question() -> None:
    read = plan(
        "q0004_0001,q0004_0002,q0004_0003,q5",
        "Dad,Not selected,Not selected,a",
        "Not selected,Not selected,Not selected,b",
        "NA,NA,NA,NA",
        "Dad,Mum,Not selected,c",
    )
    assert read.fields[0].field["type"] == "multiple_choice"
    assert read.fields[0].field["options"] == ["Dad", "Mum", "q0004_0003"]
    assert [row.answers.get("q0004") for row in read.rows] == [["Dad"], [], None, ["Dad", "Mum"]]


def test_option_texts_under_two_header_rows_are_one_select_all_question() -> None:
    got = answers("RespondentID,Which?,,Sex", ",A,B,Response", "1,A,B,f", "2,,B,m", "3,,,m")
    assert [row.get("which") for row in got] == [["A", "B"], ["B"], None]


def test_bracketed_options_with_yes_and_no_are_one_select_all_question() -> None:
    got = answers("Which? [Milk],Which? [Bread],n", "Yes,No,1", "No,No,2", "Yes,Yes,3", ",,4")
    assert [row.get("which") for row in got] == [["Milk"], [], ["Milk", "Bread"], None]


@pytest.mark.parametrize(("on", "off"), [("1", "0"), ("True", "False"), ("Oui", "Non"), ("x", "")])
def test_options_behind_a_colon_are_one_select_all_question(on: str, off: str) -> None:
    got = answers("Own: Car,Own: Bike,n", f"{on},{off},k", f"{off},{on},l", f"{on},{on},m")
    assert [row["own"] for row in got] == [["Car"], ["Bike"], ["Car", "Bike"]]


def test_blank_box_and_no_stay_different() -> None:
    read = plan("Own: Car,Own: Bike,n", "Yes,,1", "No,Yes,2", "No,No,3", "Yes,Yes,4")
    assert read.fields[0].field["type"] == "matrix"
    assert read.rows[0].answers["own"] == {"car": "Yes"}


def test_other_please_specify_stays_a_separate_text() -> None:
    read = plan("RespondentID,Which?,,", ",A,B,Other (please specify)", "1,A,B,my cat", "2,,B,", "3,A,,a dog")
    assert [made.field["type"] for made in read.fields[:2]] == ["multiple_choice", "text"]
    assert read.rows[0].answers["which_other_please_specify"] == "my cat"


def test_columns_that_share_a_scale_are_a_matrix() -> None:
    read = plan("How good? [Food],How good? [Service]", "Good,Bad", "Bad,Bad", "Good,Good")
    assert read.fields[0].field["type"] == "matrix"
    assert read.fields[0].field["rows"] == [{"id": "food", "label": "Food"}, {"id": "service", "label": "Service"}]
    assert read.fields[0].field["options"] == ["Good", "Bad"]
    assert read.rows[0].answers == {"how_good": {"food": "Good", "service": "Bad"}}


def test_ranks_of_each_of_k_columns_are_a_ranking() -> None:
    read = plan("RespondentID,Rank,,", ",A,B,C", "1,1,2,3", "2,3,2,1", "3,2,1,3", "4,1,,")
    assert (read.fields[0].field["type"], read.fields[0].field["options"]) == ("ranking", [1, 2, 3])
    assert read.rows[3].answers["rank"] == {"a": 1}


def test_neighbours_with_similar_names_and_different_answers_stay_separate() -> None:
    read = plan("child_1,child_2,Parent: Name,Parent: Age", "Ann,Bob,Zoe,33", "Cy,,Yan,44", "Di,Ed,Xi,55")
    assert [made.field["id"] for made in read.fields] == ["child_1", "child_2", "parent_name", "parent_age"]


def test_several_options_in_one_cell_are_a_select_all_question() -> None:
    got = plan("Which?,n", '"Red, Blue",1', "Red,2", '"Green, Blue",3', "Blue,4", "Green,5")
    assert got.fields[0].field["type"] == "multiple_choice"
    assert got.rows[0].answers["which"] == ["Red", "Blue"]


def test_options_ended_by_semicolons_are_a_select_all_question() -> None:
    assert answers("Which?,n", "Red;Blue;,1", "Red;,2")[0]["which"] == ["Red", "Blue"]


def test_commas_within_options_do_not_divide_them() -> None:
    cells = ["Never, but open to it", "Never, and not open to it", "Often"] * 4
    assert (field(cells)["type"], len(field(cells)["options"])) == ("single_choice", 3)


# ── ids ──


@pytest.mark.parametrize(
    ("label", "expected"),
    [("Âge", "age"), ("How old are you?", "how_old_are_you"), ("  ", "field"), ("x" * 80, "x" * 60)],
)
def test_ids_are_words_of_the_label(label: str, expected: str) -> None:
    assert infer.slug(label) == expected


def test_ids_of_other_scripts_are_stable_and_different() -> None:
    assert infer.slug("年齢") == infer.slug("年齢") != infer.slug("性別")
    assert infer.slug("年齢").startswith("field_")


def test_na_beside_blanks_on_a_scale_is_a_choice() -> None:
    cells = ["1", "2", "3", "N/A", "5", "4", ""] * 4
    assert field(cells)["type"] == "single_choice"
    assert field(cells)["options"] == ["1", "2", "3", "4", "5", "N/A"]


def test_na_beside_blanks_among_amounts_is_missing() -> None:
    assert field([*map(str, range(100, 130)), "N/A", ""])["type"] == "integer"
