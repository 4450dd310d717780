"""The history: claims, roll-ups, retention and the points of charts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection

from events import store
from metrics.monitoring import buckets
from metrics.monitoring.history import ranges, read, tables, write
from tests.metrics.monitoring import slots

pytestmark = pytest.mark.django_db

PARIS = ZoneInfo("Europe/Paris")
NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def day_of(*when: int) -> ranges.Range:
    start = datetime(*when, tzinfo=PARIS)
    return ranges.Range(start.astimezone(UTC), ranges.midnight(start.date() + timedelta(days=1), PARIS))


def everything(table: str) -> list[tuple[object, ...]]:
    return sorted(store.query(f"select at, source, n, lo, hi, total from {table}"), key=lambda row: (row[0], row[1]))


# -- claims and values ------------------------------------------------------------------------------------------------


def test_slot_is_claimed_once() -> None:
    slot = slots.of(NOON)
    tables.create_partitions(slot)
    assert [write.claim(slot), write.claim(slot)] == [True, False]


def test_slot_before_the_newest_is_refused_when_the_clock_goes_back() -> None:
    slot = slots.of(NOON)
    tables.create_partitions(slot)
    assert write.claim(slot)
    assert not write.claim(slot - 7)
    assert write.claim(slot + 1)


def test_slot_far_ahead_of_a_corrected_clock_does_not_stop_sampling() -> None:
    slot = slots.of(NOON)
    tables.create_partitions(slot)
    tables.create_partitions(slot + 3 * tables.DAY_SLOTS)
    assert write.claim(slot + 3 * tables.DAY_SLOTS)
    assert write.claim(slot)


def test_missing_and_impossible_values_are_null_and_not_zero() -> None:
    slot = slots.of(NOON)
    tables.create_partitions(slot)
    write.values(
        slot, {("cpu.percent", "web-1"): 12.5, ("memory.percent", "web-1"): float("nan"), ("db.blocked", ""): 0}
    )
    found = read.targets(slot)
    assert found["cpu.percent"] == {"web-1": 12.5}
    assert found["memory.percent"] == {"web-1": None}
    assert (found["db.blocked"][""], found["db.latency"][""]) == (0.0, None)


def test_window_has_one_value_for_each_slot_and_none_for_gaps() -> None:
    slot = slots.of(NOON)
    slots.fill("db.blocked", [(slot - 3, 1), (slot - 1, 3), (slot, None), (slot + 1, 9)])
    assert read.window("db.blocked", 25, slot) == [None, 1, None, 3, None]


def test_window_without_target_has_the_worst_of_all_hosts() -> None:
    slot = slots.of(NOON)
    for target, cpu in (("a", 20), ("b", 90)):
        slots.fill("cpu.percent", [(slot, cpu)], target)
    slots.fill("disk.free", [(slot + 1, 50)], "a")
    slots.fill("disk.free", [(slot + 1, 3)], "b")
    assert read.window("cpu.percent", 5, slot) == [90]
    assert read.window("cpu.percent", 5, slot, "a") == [20]
    assert read.window("disk.free", 5, slot + 1) == [3]


# -- roll-ups ---------------------------------------------------------------------------------------------------------


def test_minutes_and_hours_have_count_extremes_and_sum() -> None:
    start = slots.of(NOON)
    slots.fill("db.blocked", [(start + n, None if n % 2 else n) for n in range(2 * tables.HOUR_SLOTS)])
    slots.roll_up(start + 2 * tables.HOUR_SLOTS + 5)
    minutes, hours = everything("metrics_minute"), everything("metrics_hour")
    assert (len(minutes), len(hours)) == (120, 2)
    position = 3  # of db.blocked
    at, _source, n, lo, hi, total = minutes[1]
    assert (at, n[position], lo[position], hi[position], total[position]) == (
        NOON + timedelta(minutes=1),
        6,
        12,
        22,
        102,
    )
    at, _source, n, lo, hi, total = hours[1]
    assert (at, n[position], lo[position], hi[position]) == (NOON + timedelta(hours=1), 360, 720, 1438)
    assert total[position] == pytest.approx(sum(range(720, 1440, 2)))
    assert (n[0], lo[0]) == (0, None)


def test_repeated_rollup_writes_the_same_rows() -> None:
    start = slots.of(NOON)
    slots.fill("db.blocked", [(start + n, n % 17) for n in range(1500)])
    slots.roll_up(start + 1500)
    before = everything("metrics_minute"), everything("metrics_hour")
    store.query("update metrics_rollup set upto = %s returning 1", (NOON,))
    slots.roll_up(start + 1500)
    assert (everything("metrics_minute"), everything("metrics_hour")) == before


def test_open_minute_is_not_rolled_up() -> None:
    start = slots.of(NOON)
    slots.fill("db.blocked", [(start + n, 1) for n in range(30)])
    slots.roll_up(start + 24)  # the second minute has just ended; a sampler may still write into it
    assert len(everything("metrics_minute")) == 1
    slots.roll_up(start + 26)
    assert len(everything("metrics_minute")) == 2


def test_gap_of_ten_days_is_passed_in_steps() -> None:
    start = slots.of(NOON)
    later = start + 10 * tables.DAY_SLOTS
    slots.fill("db.blocked", [(start, 1), (later, 2)])
    slots.roll_up(later + 20)
    assert [row[0] for row in everything("metrics_minute")] == [NOON, NOON + timedelta(days=10)]


# -- retention --------------------------------------------------------------------------------------------------------


def partitions(table: str) -> list[str]:
    asked = "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = %s::regclass"
    return sorted(row[0] for row in store.query(asked, (table,)))


def test_expired_partition_is_dropped_once_the_minutes_have_it() -> None:
    old = tables.present_slot() - 40 * tables.DAY_SLOTS
    name = f"metrics_sample_p{datetime.fromtimestamp(old * 5, UTC):%Y%m%d}"
    slots.fill("db.blocked", [(old, 1)])
    assert tables.drop_expired() == []
    slots.roll_up(old + 3 * tables.DAY_SLOTS)
    assert tables.drop_expired() == [name]
    assert name not in partitions("metrics_sample")
    assert len(everything("metrics_minute")) == 1


def test_one_run_drops_one_partition_of_a_table() -> None:
    old = tables.present_slot() - 40 * tables.DAY_SLOTS
    slots.fill("db.blocked", [(old, 1), (old + tables.DAY_SLOTS, 1)])
    slots.roll_up(old + 4 * tables.DAY_SLOTS)
    before = len(partitions("metrics_sample"))
    tables.drop_expired()
    assert len(partitions("metrics_sample")) == before - 1


def test_partitions_are_created_once() -> None:
    slot = slots.of(datetime(2031, 12, 31, 23, tzinfo=UTC))
    assert tables.create_partitions(slot) == 10
    assert tables.create_partitions(slot) == 0
    assert {"metrics_sample_p20311231", "metrics_sample_p20320101"} <= set(partitions("metrics_sample"))
    assert {"metrics_hour_p20310101", "metrics_hour_p20320101"} <= set(partitions("metrics_hour"))


def test_retention_refuses_other_tables_and_short_times() -> None:
    for table, days in (("users", 400), ("metrics_sample", 0)):
        with pytest.raises(Exception, match="not a table of the history"), connection.cursor() as cursor:
            cursor.execute("savepoint before")
            try:
                cursor.execute(tables.RETAIN, (table, days))
            finally:
                cursor.execute("rollback to savepoint before")


# -- points -----------------------------------------------------------------------------------------------------------


def test_points_have_a_null_row_for_every_gap() -> None:
    start = slots.of(NOON)
    slots.fill("db.blocked", [(start, 1), (start + 2, 3)])
    found = read.points("db.blocked", ranges.Range(NOON, NOON + timedelta(seconds=20)), 5)
    at = int(NOON.timestamp())
    assert found.tier == "raw"
    assert found.points == [
        (at, 1, 1, 1, 1),
        (at + 5, None, None, None, 0),
        (at + 10, 3, 3, 3, 1),
        (at + 15, None, None, None, 0),
    ]


@pytest.mark.parametrize("rolled", [False, True])
def test_points_are_the_same_before_and_after_the_rollup(rolled: bool) -> None:
    start = slots.of(NOON)
    slots.fill("db.blocked", [(start + n, n % 60) for n in range(4 * tables.HOUR_SLOTS + 7)])
    if rolled:
        slots.roll_up(start + 4 * tables.HOUR_SLOTS + 7)
    found = read.points("db.blocked", ranges.Range(NOON, NOON + timedelta(hours=5)), 3600)
    assert found.tier == "hour"
    assert [(low, round(average, 6), high, n) for _, low, average, high, n in found.points[:4]] == [
        (0, 29.5, 59, 720)
    ] * 4
    assert found.points[4] == (int(NOON.timestamp()) + 4 * 3600, 0, 3, 6, 7)  # partial, as its count says


def test_points_of_all_hosts_average_the_worst_host_and_not_the_mean() -> None:
    start = slots.of(NOON)
    for target, cpu in (("a", 0), ("b", 100)):
        slots.fill("cpu.percent", [(start + n, cpu) for n in range(12)], target)
    found = read.points("cpu.percent", ranges.Range(NOON, NOON + timedelta(minutes=1)), 60)
    assert found.points == [(int(NOON.timestamp()), 0, 100, 100, 12)]


def test_points_after_a_slot_begin_with_the_next_one() -> None:
    start = slots.of(NOON)
    slots.fill("db.blocked", [(start + n, n) for n in range(20)])
    wanted = ranges.Range(NOON, NOON + timedelta(seconds=100))
    found = read.points("db.blocked", wanted, 5, after_slot=start + 15)
    assert [point[0] // 5 - start for point in found.points] == [16, 17, 18, 19]
    assert [point[2] for point in found.points] == [16, 17, 18, 19]


def test_percentile_of_an_hour_comes_from_merged_counts_and_not_from_percentiles() -> None:
    start = slots.of(NOON)
    tables.create_partitions(start)
    for minute, (count, seconds) in enumerate(((1000, 0.01), (10, 5.0))):
        counts = [0] * buckets.SIZE
        counts[buckets.index(seconds)] = count
        slot = start + minute * tables.MINUTE_SLOTS
        write.add_durations(slot, read.DURATIONS, counts)
        write.values(slot, {("requests.p95", ""): seconds})
    for rolled in (False, True):
        if rolled:
            slots.roll_up(start + tables.HOUR_SLOTS + 5)
        found = read.points("requests.p95", ranges.Range(NOON, NOON + timedelta(hours=1)), 3600)
        _, low, average, high, _ = found.points[0]
        assert average == pytest.approx(0.01, rel=0.05), rolled
        assert (low, high) == pytest.approx((0.01, 5.0))


# -- daylight saving --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 6, 1), 24)])
@pytest.mark.parametrize("rolled", [False, True])
def test_day_of_a_zone_has_all_its_hours(day: tuple[int, int, int], hours: int, rolled: bool) -> None:
    wanted = day_of(*day)
    first, last = slots.of(wanted.start), slots.of(wanted.end)
    slots.fill("db.blocked", [(slot, 7) for slot in range(first - 720, last + 720, 12)])
    if rolled:
        slots.roll_up(last + 720)
    found = read.points("db.blocked", wanted, ranges.DAY, PARIS)
    assert found.points == [(int(wanted.start.timestamp()), 7, 7, 7, hours * 60)]


def test_days_across_both_changes_begin_at_local_midnight() -> None:
    first, last = (ranges.midnight(datetime(2026, 3, day, tzinfo=PARIS).date(), PARIS) for day in (28, 31))
    begins = ranges.bounds(ranges.Range(first, last), ranges.DAY, PARIS)
    local = [at.astimezone(PARIS) for at in begins]
    assert [(at.day, at.hour) for at in local] == [(28, 0), (29, 0), (30, 0), (31, 0)]
    assert [(b - a).total_seconds() / 3600 for a, b in itertools.pairwise(begins)] == [24, 23, 24]


def test_day_without_midnight_begins_at_the_change() -> None:
    santiago = ZoneInfo("America/Santiago")
    day = datetime(2026, 9, 6).date()  # 24:00 becomes 01:00
    assert ranges.midnight(day, santiago) == datetime(2026, 9, 6, 4, tzinfo=UTC)


def test_zone_with_half_hours_reads_minutes() -> None:
    kolkata = ZoneInfo("Asia/Kolkata")
    start = ranges.midnight(datetime(2026, 11, 2).date(), kolkata)
    slots.fill("db.blocked", [(slots.of(start) - 1, 100), (slots.of(start), 1)])
    found = read.points("db.blocked", ranges.Range(start, start + timedelta(days=1)), ranges.DAY, kolkata)
    assert (found.tier, found.points[0][1:]) == ("minute", (1, 1, 1, 1))


# -- ranges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("15m", NOON - timedelta(minutes=15)),
        ("24h", NOON - timedelta(hours=24)),
        ("1d", datetime(2026, 11, 2, tzinfo=UTC)),
        ("7d", datetime(2026, 10, 27, tzinfo=UTC)),
        ("1y", datetime(2025, 11, 2, tzinfo=UTC)),
    ],
)
def test_range_ends_now(text: str, start: datetime) -> None:
    assert ranges.parse(text, NOON, ZoneInfo("UTC")) == ranges.Range(start, NOON)


@pytest.mark.parametrize("text", ["", "0h", "1w", "-1d", "h", "6y", "999999d", "1.5h", "١h"])
def test_range_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ranges.BadRange):
        ranges.parse(text, NOON, ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("length", "step"), [(900, 5), (3600, 15), (86_400, 300), (7 * 86_400, 3600), (365 * 86_400, 86_400)]
)
def test_default_step_gives_at_most_600_points(length: int, step: int) -> None:
    wanted = ranges.Range(NOON - timedelta(seconds=length), NOON)
    assert ranges.default_step(wanted) == step
    assert len(ranges.bounds(wanted, step, ZoneInfo("UTC"))) <= ranges.DEFAULT_POINTS + 2


def test_more_than_2000_points_are_refused() -> None:
    wanted = ranges.Range(NOON - timedelta(seconds=2001 * 5), NOON)
    with pytest.raises(ranges.BadRange, match="2,000 points"):
        ranges.bounds(wanted, 5, ZoneInfo("UTC"))
