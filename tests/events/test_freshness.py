"""The position up to which a process knows the log, and the cached values that it therefore refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from events import freshness, types
from events.freshness import Freshness

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(position: int, name: str = "user.updated", key: str = "1", **data: Any) -> types.RecordedEvent:
    return types.RecordedEvent(
        position=position,
        stream=f"{name.partition('.')[0]}-{key}",
        version=1,
        type=name,
        schema_version=1,
        data=data,
        event_id=uuid4(),
        recorded_at=AT,
        actor="system",
        reason=None,
        correlation_id=None,
        causation_id=None,
        metadata={},
    )


@pytest.fixture
def known() -> Freshness:
    """A process that has followed the log from position 100 on."""
    known = Freshness()
    known.start("a", 100)
    return known


def lowest(known: Freshness, *tags: str, name: str = "n", **how: Any) -> int:
    return known.lowest(name, freshness.slots(tags), **{"exact": True, **how})


def test_process_accepts_values_as_of_its_start_and_none_from_before(known: Freshness) -> None:
    assert lowest(known, "user") == 100


def test_event_refuses_exact_values_with_its_category_or_stream_and_no_others(known: Freshness) -> None:
    known.touch(event(120))
    assert (lowest(known, "user"), lowest(known, "user-1"), lowest(known, "user-2", "form")) == (120, 120, 100)
    assert lowest(known, "user", exact=False) == 100


@pytest.mark.parametrize("name", ["user.deleted", "user.restored"])
def test_deletion_and_restoration_refuse_values_that_may_be_old(known: Freshness, name: str) -> None:
    known.touch(event(120, name))
    assert (lowest(known, "user", exact=False), lowest(known, "form", exact=False)) == (120, 100)


def test_erasure_refuses_every_value_and_drops_copies(known: Freshness) -> None:
    dropped: list[int] = []
    known.when_erased(lambda: dropped.append(known.position))
    known.touch(event(120, "user.erased"))
    assert (lowest(known, "form", exact=False), dropped) == (120, [120])


def test_tags_and_hard_categories_of_layers_above_are_used(known: Freshness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(freshness.taggers, "form", lambda one: (f"user-{one.data['user_id']}",))
    monkeypatch.setattr(freshness, "hard_categories", {"setting"})
    known.touch(event(120, "form.created", user_id="9"))
    known.touch(event(130, "setting.changed"))
    assert (lowest(known, "user-9"), lowest(known, "setting", exact=False)) == (120, 130)


@pytest.mark.parametrize(
    ("pattern", "name", "refused"),
    [
        ("form-stats:*", "form-stats:7d:admin", True),
        ("form-stats", "form-stats:7d:admin", True),
        ("form-stats", "form-stats-old:admin", False),
        ("*", "anything", True),
        ("user-forms:1*", "user-forms:12:admin", True),
        ("user-forms:1", "user-forms:12:admin", False),
        ("user.forms:*", "user-forms:12:admin", False),
        ("metrics:users:*", "metrics:users:viewer", True),
    ],
)
def test_pattern_refuses_names_it_matches(
    known: Freshness, monkeypatch: pytest.MonkeyPatch, pattern: str, name: str, refused: bool
) -> None:
    monkeypatch.setitem(freshness.patterns_of, "cache.refused", lambda one: one.data["pattern"])
    known.touch(event(120, "cache.refused", pattern=pattern))
    assert lowest(known, "user", name=name, exact=False) == (120 if refused else 100)


def test_more_patterns_than_are_kept_refuse_all_older_values(known: Freshness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(freshness.patterns_of, "cache.refused", lambda one: one.data["pattern"])
    for number in range(freshness.MAX_PATTERNS + 1):
        known.touch(event(200 + number, "cache.refused", pattern=f"p{number}"))
    assert lowest(known, "user", name="p0") == 200 + freshness.MAX_PATTERNS


def test_value_includes_an_own_write_that_the_follower_has_not_handled(known: Freshness) -> None:
    assert lowest(known, "user", reached=150) == 150
    known.touch(event(150))
    known.touch(event(160))
    assert lowest(known, "user", reached=150) == 160
    assert lowest(known, "user", reached=150, exact=False) == 150
    assert lowest(known, "form", reached=150) == 100  # the write does not concern it


def test_every_change_is_seen_by_the_quick_check(known: Freshness) -> None:
    seen = known.changes
    for act in (lambda: known.touch(event(120)), known.refuse_all, lambda: known.restart("b", 5)):
        act()
        assert known.changes != seen
        seen = known.changes


def test_event_that_was_handled_before_marks_nothing(known: Freshness) -> None:
    known.touch(event(100))
    assert (lowest(known, "user"), known.position) == (100, 100)


def test_next_follower_continues_without_a_gap_and_raises_the_floor_after_one(known: Freshness) -> None:
    known.touch(event(120))
    known.start("a", 110)
    assert (known.floor, known.position) == (100, 120)
    known.start("a", 400)
    assert (known.floor, known.position) == (400, 400)


def test_another_history_refuses_everything_from_before(known: Freshness) -> None:
    known.touch(event(120))
    known.confirm(0.0)
    known.start("b", 50)
    assert (known.epoch, known.floor, lowest(known, "user"), known.trusted(0.1)) == ("b", 50, 50, False)


def test_trust_ends_and_only_a_read_of_the_store_brings_it_back(known: Freshness) -> None:
    known.confirm(10.0)
    assert known.trusted(11.1)
    assert known.confirm_by_message(11.0)
    assert known.trusted(12.1)
    assert not known.trusted(12.3)
    assert not known.confirm_by_message(12.3)  # it may have waited as long as the process
    assert not known.trusted(12.4)
    known.confirm(12.4)
    assert known.trusted(12.5)


def test_slots_of_many_tags_are_sorted_and_distinct() -> None:
    found = freshness.slots(["user", "form", "user"])
    assert found == tuple(sorted({freshness.slot("user"), freshness.slot("form")}))


def matches(pattern: str, name: str) -> bool:
    """True when the pattern matches by its definition: tries every length for every star."""
    if not pattern:
        return not name or name[0] == ":"
    if pattern[0] == "*":
        return any(matches(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return name[:1] == pattern[0] and matches(pattern[1:], name[1:])


def test_pattern_matches_what_its_definition_says() -> None:
    patterns = ["".join(letters) for size in range(1, 5) for letters in product("a:*", repeat=size)]
    names = ["".join(letters) for size in range(1, 6) for letters in product("ab:", repeat=size)]
    wrong = [
        (pattern, name)
        for pattern in patterns
        for name in names
        if bool(freshness.glob(pattern).fullmatch(name)) != matches(pattern, name)
    ]
    assert wrong == []


def test_pattern_of_many_stars_is_matched_in_linear_time() -> None:
    """With backtracking into each star this would take longer than the age of the universe."""
    assert freshness.glob("*a" * 95 + "*b").fullmatch("a" * 200 + ":admin") is None
