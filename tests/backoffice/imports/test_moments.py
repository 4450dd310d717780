"""Detection of the columns with the times when a submission was started, finished and submitted."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.sections.imports import dates, headers, rows, zones

CASES = Path(os.environ.get("SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "cases"


def plan(*lines: str, **options: Any) -> rows.Plan:
    return rows.plan(("\n".join(lines) + "\n").encode(), **options)


def created(read: rows.Plan) -> list[str | None]:
    return [row.created_at.isoformat() if row.created_at else None for row in read.rows]


def days(count: int = 8, seconds: bool = True) -> list[str]:
    return [f"2024-03-{n:02} 15:04:{n if seconds else 0:02}" for n in range(1, count + 1)]


# ── zones ──


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("2024/03/01 3:04:05 PM EST", "2024-03-01T20:04:05Z"),
        ("2024/03/01 3:04:05 PM EDT", "2024-03-01T19:04:05Z"),
        ("2024/03/01 3:04:05 PM CET", "2024-03-01T14:04:05Z"),
        ("2024/03/01 3:04:05 PM GMT-5", "2024-03-01T20:04:05Z"),
        ("2024-03-01 15:04:05 +0530", "2024-03-01T09:34:05Z"),
        ("2024-03-01 15:04:05 +0000 UTC", "2024-03-01T15:04:05Z"),
        ("2024-03-01T10:00:00+01:00[Europe/Berlin]", "2024-03-01T09:00:00Z"),
        ("2024-07-01 10:00:00 Europe/Berlin", "2024-07-01T08:00:00Z"),
        ("2024-07-01 10:00:00 (America/New_York)", "2024-07-01T14:00:00Z"),
        ("Fri Mar 01 2024 10:00:00 GMT+0100 (Central European Standard Time)", "2024-03-01T09:00:00Z"),
        ("Fri, 01 Mar 2024 10:00:00 +0100", "2024-03-01T09:00:00Z"),
        ("Dienstag, 5. März 2024 um 13:39:50 Mitteleuropäische Normalzeit", "2024-03-05T12:39:50Z"),
        ("Donnerstag, 4. Juli 2024 um 13:39:50 Mitteleuropäische Sommerzeit", "2024-07-04T11:39:50Z"),
        ("Tuesday, March 5, 2024 at 1:39:50 PM Coordinated Universal Time", "2024-03-05T13:39:50Z"),
        ("March 5, 2024 at 1:39:50\u202fPM Central European Standard Time", "2024-03-05T12:39:50Z"),
        ("mardi 5 mars 2024 à 13:39:50 heure normale d’Europe centrale", "2024-03-05T12:39:50Z"),
        ("jeudi 4 juillet 2024 à 13:39:50 heure d'été d'Europe centrale", "2024-07-04T11:39:50Z"),
        ("martes, 5 de marzo de 2024, 13:39:50 (hora estándar de Europa central)", "2024-03-05T12:39:50Z"),
        ("5 de março de 2024 às 13:39:50", "2024-03-05T13:39:50Z"),
        ("5 марта 2024 г., 13:39:50", "2024-03-05T13:39:50Z"),
        ("5 stycznia 2024 13:39:50", "2024-01-05T13:39:50Z"),
        ("2024. 3. 1. 오후 3:04:05", "2024-03-01T15:04:05Z"),
        ("2024/03/01 3:04:05 午後 GMT+9", "2024-03-01T06:04:05Z"),
        ("2024年3月1日下午3:04", "2024-03-01T15:04:00Z"),
        ("2024/03/01 3:04:05 p.\u00a0m. GMT-5", "2024-03-01T20:04:05Z"),
        ("Thursday, March 7, 2024 at 12:05 AM Eastern Time", "2024-03-07T05:05:00Z"),
        ("15.03.2024 15.04.05", "2024-03-15T15:04:05Z"),
    ],
)
def test_time_is_read_in_the_zone_that_it_names(cell: str, expected: str) -> None:
    style = dates.study([cell], dates.DAY_FIRST)
    assert style is not None
    moment = style.value(cell, UTC)
    assert isinstance(moment, datetime)
    assert moment.astimezone(UTC).isoformat().replace("+00:00", "Z") == expected


@pytest.mark.parametrize("cell", ["2024-03-01 10:00 XYZ", "2024-03-01 10:00 at home", "2024-03-01 10:00 Mars/Base"])
def test_time_in_an_unknown_zone_is_no_time(cell: str) -> None:
    assert dates.study([cell], dates.DAY_FIRST) is None


@given(st.text(max_size=40))
def test_any_text_is_a_zone_or_none(text: str) -> None:
    zones.find(text)


@given(st.text(st.sampled_from("0123456789-/.: TZ+APMamECSUT,年月日오전"), max_size=30))
def test_any_text_is_a_time_or_none(text: str) -> None:
    style = dates.study([text], dates.MONTH_FIRST)
    assert style is None or style.value(text, UTC)


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2060, 1, 1)),
    st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %I:%M:%S %p", "%A, %d %B %Y %H:%M:%S",
                     "%B %d, %Y at %I:%M:%S %p", "%a %b %d %Y %H:%M:%S", "%Y年%m月%d日 %H:%M:%S",
                     "%d %b %Y, %H.%M.%S"]),
    st.sampled_from(["", " UTC", " EST", " GMT+0530", " Europe/Berlin", " Central European Summer Time", "+02:00"]),
)  # fmt: skip
def test_any_time_is_read_back_in_each_format(moment: datetime, shape: str, zone: str) -> None:
    moment = moment.replace(microsecond=0)
    cell = moment.strftime(shape) + zone
    style = dates.study([cell], dates.MONTH_FIRST)
    assert style is not None
    read = style.value(cell, UTC)
    assert isinstance(read, datetime)
    assert read.replace(tzinfo=None) == moment


def test_ambiguous_zone_abbreviation_is_read_and_reported_with_its_column() -> None:
    read = plan("Timestamp,a", "2024/03/01 3:04:05 PM IST,x", "2024/03/02 3:04:05 PM IST,y")
    assert created(read)[0] == "2024-03-01T09:34:05+00:00"
    assert any("column A" in warning and "IST" in warning for warning in read.warnings)


def test_unknown_zone_abbreviation_keeps_the_text_and_is_reported_with_its_column() -> None:
    read = plan("Timestamp,a", "2024/03/01 3:04:05 PM QQT,x", "2024/03/02 3:04:05 PM QQT,y")
    assert read.rows[0].answers == {"timestamp": "2024/03/01 3:04:05 PM QQT", "a": "x"}
    assert any("column A" in warning and "QQT" in warning for warning in read.warnings)


def test_time_column_without_times_is_reported() -> None:
    read = plan("Submitted at,a", "yesterday,x", "last week,y")
    assert any("column A" in warning and "yesterday" in warning for warning in read.warnings)


# ── fillers ──


@pytest.mark.parametrize(
    "filler",
    ["1980-01-01 00:00:00", "1970-01-01 00:00:00", "1/1/1970 0:00", "1899-12-30 00:00:00", "0000-00-00 00:00:00",
     "12/30/1899 00:00", "0001-01-01T00:00:00", "[not completed]"],
)  # fmt: skip
def test_filler_is_no_submission_time_and_is_reported(filler: str) -> None:
    read = plan("id,submitdate,Q1", f"1,{filler},a", f"2,{filler},b", "3,,c")
    assert created(read) == [None, None, None]
    assert any("column B" in warning and "no time" in warning for warning in read.warnings)
    assert read.rows[0].answers == {"q1": "a", "id": "1"}


def test_filler_among_times_is_ignored() -> None:
    read = plan("id,submitdate,Q1", "1,2024-03-01 10:00:00,a", "2,1980-01-01 00:00:00,b")
    assert created(read) == ["2024-03-01T10:00:00+00:00", None]


def test_other_time_column_replaces_one_with_only_fillers() -> None:
    read = plan("id,submitdate,datestamp,Q1", "1,1980-01-01 00:00:00,2024-03-01 10:00:01,a")
    assert created(read) == ["2024-03-01T10:00:01+00:00"]


def test_birth_date_on_new_year_is_an_answer() -> None:
    read = plan("Timestamp,Born on", "2024-03-01 10:00:01,1980-01-01", "2024-03-02 10:00:01,1970-01-01")
    assert [row.answers["born_on"] for row in read.rows] == ["1980-01-01", "1970-01-01"]


# ── by content ──


@pytest.mark.parametrize("header", ["Ora trimiterii", "Sent", "Időbélyeg", "הוגש ב", "Χρονική σήμανση", "x", ""])
@pytest.mark.parametrize("newest_first", [False, True])
def test_submission_time_is_recognised_by_its_content(header: str, newest_first: bool) -> None:
    moments = sorted(days(), reverse=newest_first)
    read = plan(f"{header},Name,n", *(f"{moment},p{n},{n}" for n, moment in enumerate(moments)))
    assert created(read)[0] == moments[0].replace(" ", "T") + "+00:00"
    assert [made.field["label"] for made in read.fields] == ["Name", "n"]


@pytest.mark.parametrize(
    "header",
    ["Отметка времени", "タイムスタンプ", "Tijdstempel", "Sygnatura czasowa", "Fertigstellungszeit",
     "Hora de finalización", "Carimbo de data/hora", "타임스탬프", "提交时间", "Zaman damgası", "Heure de fin",
     "intake_timestamp", "Survey Timestamp"],
)  # fmt: skip
def test_submission_time_is_recognised_by_its_name_in_any_language(header: str) -> None:
    read = plan(f"Q,{header},n,m,o,p,r", "x,2024-03-01 10:00:00,1,2,3,4,5", "y,2024-02-01 10:00:00,1,2,3,4,5")
    assert created(read)[0] == "2024-03-01T10:00:00+00:00"


def test_last_columns_are_searched_for_the_submission_time() -> None:
    lines = (f"p{n},x,{moment}" for n, moment in enumerate(days()))
    assert created(plan("Name,City,Envoyée", *lines))[0] == "2024-03-01T15:04:01+00:00"


def test_start_and_end_are_recognised_by_their_content() -> None:
    pairs = [(f"2024-03-{n:02} 10:00:00", f"2024-03-{n:02} 10:0{n}:30") for n in range(1, 9)]
    read = plan("ID,Начало,Конец,Вопрос", *(f"{n},{a},{b},x{n}" for n, (a, b) in enumerate(pairs)))
    assert [row.completion_time for row in read.rows][:2] == [90, 150]
    assert created(read)[0] == "2024-03-01T10:01:30+00:00"


@pytest.mark.parametrize(
    "header",
    [
        "When is your appointment?",
        "Appointment",
        "Date of birth",
        "Rendez-vous",
        "Termin",
        "Arrival",
        "予約はいつですか？",
    ],
)
def test_question_about_a_time_stays_a_question(header: str) -> None:
    read = plan(f"{header},Name", *(f"{moment},p{n}" for n, moment in enumerate(days())))
    assert created(read) == [None] * 8
    assert read.fields[0].field["type"] == "datetime"


def test_times_typed_by_people_are_answers() -> None:
    typed = ["2024-05-03 10:00", "2024-01-09 14:30", "2024-04-04 09:15", "2024-02-02 16:00", "2024-03-01 11:45"]
    read = plan("Slot chosen,Name", *(f"{moment},p{n}" for n, moment in enumerate(typed)))
    assert created(read) == [None] * 5


def test_question_about_a_start_is_no_start_of_the_submission() -> None:
    lines = [f"2024-03-0{n} 12:13:1{n},Party {n},2024-0{9 - n}-01 18:00,2024-0{9 - n}-01 23:00,x" for n in range(1, 6)]
    read = plan("Timestamp,Event,Start time,End time,Place", *lines)
    assert created(read)[0] == "2024-03-01T12:13:11+00:00"
    assert [row.started_at for row in read.rows] == [None] * 5
    assert read.rows[0].answers["start_time"] == "2024-08-01T18:00:00Z"


def test_past_project_start_is_no_start_of_the_submission() -> None:
    lines = [f"2024-03-0{n} 12:13:1{n},Party {n},2023-0{9 - n}-01 18:00,x" for n in range(1, 6)]
    read = plan("Timestamp,Project,Start time,Place", *lines)
    assert [row.started_at for row in read.rows] == [None] * 5


def test_missing_submission_time_is_reported() -> None:
    said = plan("Name,Age", "Ann,3", "Bob,4").warnings
    assert any("no column says when" in warning for warning in said)
    assert not any(
        "no column says when" in warning for warning in plan("Timestamp,a", "2024-03-01 10:00:00,x").warnings
    )


def test_round_start_on_the_day_of_the_submission_is_its_start() -> None:
    lines = (f"{n},2024-03-0{n} 10:0{n}:00,en,2024-03-0{n} 10:00:00,x" for n in range(1, 6))
    read = plan("id,submitdate,startlanguage,startdate,Q1", *lines)
    assert [row.completion_time for row in read.rows] == [60, 120, 180, 240, 300]


# ── duration ──


def test_duration_is_end_minus_start_although_the_upload_came_days_later() -> None:
    read = plan(
        "start,end,Q,_uuid,_submission_time",
        "2024-03-01T10:00:00.000+03:00,2024-03-01T10:20:00.000+03:00,x,u-1,2024-03-09T07:01:00",
        "2024-03-02T10:00:00.000+03:00,2024-03-02T10:25:00.000+03:00,y,u-2,2024-03-09T07:02:00",
    )
    assert [row.completion_time for row in read.rows] == [1200, 1500]
    assert created(read)[0] == "2024-03-09T07:01:00+00:00"
    assert read.rows[0].answers["end"] == "2024-03-01T10:20:00+03:00"


def test_duration_without_a_finish_ends_at_the_submission() -> None:
    read = plan("Start Date (UTC),Submit Date (UTC),Q", "2024-03-01 10:00:00,2024-03-01 10:03:20,x")
    assert read.rows[0].completion_time == 200


# ── the order of day and month ──


def test_hyphens_put_the_day_first() -> None:
    read = plan("Tijdstempel,Q", *(f"0{n}-03-2024 15:04:05,x{n}" for n in range(1, 9)))
    assert created(read)[1] == "2024-03-02T15:04:05+00:00"


def test_times_that_ascend_in_one_order_only_prove_it_for_the_whole_file() -> None:
    table = [datetime(2024, month, day, 9, 1, 1) for month in range(1, 7) for day in (3, 11)]
    read = plan("Timestamp,Met on", *(f"{m.strftime('%d/%m/%Y %H:%M:%S')},04/05/2020" for m in table))
    assert created(read)[1] == "2024-01-11T09:01:01+00:00"
    assert read.rows[0].answers["met_on"] == "2020-05-04"
    assert not any("either way" in warning for warning in read.warnings)


# ── names ──


def test_each_role_has_names_that_match_headers() -> None:
    assert all(headers.plain(name) == name for name in headers.ROLES)
    assert not headers.SUBMITTED & headers.FINISHED


# ── the collected cases ──

EXPECTED = {
    "01-limesurvey-1980.csv": (None, None, None),
    "02-redcap-labels.csv": ("2024-03-01T09:15:00Z", None, None),
    "03-googleforms-ampm.csv": ("2024-03-01T20:04:05Z", None, None),
    "03-googleforms-cet.csv": ("2024-03-01T14:04:05Z", None, None),
    "03-googleforms-est.csv": ("2024-03-01T20:04:05Z", None, None),
    "03-googleforms-estedt.csv": ("2024-03-08T20:04:05Z", None, None),
    "04-timestamp-ja.csv": ("2024-03-01T15:04:05Z", None, None),
    "04-timestamp-nl.csv": ("2024-03-01T15:04:05Z", None, None),
    "04-timestamp-pl.csv": ("2024-03-01T15:04:05Z", None, None),
    "04-timestamp-ru.csv": ("2024-03-01T15:04:05Z", None, None),
    "05-nextcloud-long.csv": ("2024-03-05T12:39:50Z", None, None),
    "20-qualtrics-multi.csv": ("2024-03-11T07:05:30Z", "2024-03-11T07:00:00Z", 330),
    "22-kobo-spaceonly.csv": ("2024-03-01T07:20:00Z", "2024-03-01T07:00:00Z", 1200),
    "22-kobo-xml.csv": ("2024-03-09T07:01:00Z", "2024-03-01T07:00:00Z", 1200),
    "30-msforms-de.csv": ("2024-03-01T10:04:00Z", "2024-03-01T10:00:00Z", 240),
    "30-msforms-es.csv": ("2024-03-13T10:04:00Z", "2024-03-13T10:00:00Z", 240),
    "30-msforms-fr.csv": ("2024-03-13T10:04:00Z", "2024-03-13T10:00:00Z", 240),
    "38-tz-iana.csv": ("2024-03-01T09:00:00Z", None, None),
    "39-negcase-mixed.csv": ("2024-03-08T20:04:05Z", None, None),
    "F01-limesurvey.csv": ("2024-03-05T10:12:33Z", "2024-03-05T10:02:03Z", 630),
    "F02-qualtrics.csv": ("2024-03-11T14:05:30Z", "2024-03-11T14:00:00Z", 330),
    "F04-redcap-raw.csv": ("2024-03-01T09:15:00Z", None, None),
    "F05-googleforms-gmt.csv": ("2024-03-01T14:04:05Z", None, None),
    "F06-typeform.csv": ("2024-03-01T10:03:20Z", "2024-03-01T10:00:00Z", 200),
    "F07-surveymonkey.csv": ("2024-03-01T10:01:00Z", "2024-03-01T10:00:00Z", 60),
    "F09-jotform.csv": ("2024-03-01T14:01:10Z", None, None),
    "F10-msforms.csv": ("2024-03-01T10:01:11Z", "2024-03-01T09:58:11Z", 180),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_collected_exports_have_their_times(name: str) -> None:
    path = CASES / name
    if not path.exists():
        pytest.skip(f"no collected exports at {CASES} (SHARED_DATA names another place)")
    first = rows.plan(path.read_bytes(), zone=ZoneInfo("UTC")).rows[0]
    times = [moment and moment.isoformat().replace("+00:00", "Z") for moment in (first.created_at, first.started_at)]
    assert (*times, first.completion_time) == EXPECTED[name]
