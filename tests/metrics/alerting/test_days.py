"""Whole days of synthetic values: how many messages they cause, and how soon a real fault is found. Seeds are fixed."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
import pytest

from metrics.monitoring.alerting import defaults, preview, rules, windows

DAY = 17_280  # slots


def rule(key: str) -> rules.Rule:
    values = defaults.RULES[key]
    return rules.Rule(**{name: getattr(values, name) for name in values.__struct_fields__})


def noise(seed: int, *, middle: float, deviation: float, memory: float) -> list[float | None]:
    """Values that swing slowly around a mean: an autoregressive process of the first order."""
    chance, value, found = random.Random(seed), 0.0, []
    step = deviation * (1 - memory**2) ** 0.5
    for _ in range(DAY):
        value = memory * value + chance.gauss(0, step)
        found.append(max(0.0, min(100.0, middle + value)))
    return list(found)


@pytest.mark.parametrize("seed", range(5))
def test_noisy_day_around_the_level_causes_at_most_three_messages(seed: int) -> None:
    values = noise(seed, middle=80, deviation=4, memory=0.9)
    found = preview.replay(rule("high_cpu"), values)
    assert 1 <= found.messages <= 3
    plain = msgspec.structs.replace(rule("high_cpu"), for_seconds=0, keep_seconds=0, clear=None, critical=None)
    assert preview.replay(plain, values).messages > 1_000, "the same day by the level alone"


def traffic(seed: int, per_minute: float, errors: Sequence[float]) -> tuple[list[float], list[float]]:
    """Requests and failed requests of each slot; `errors` is the share that fails at each slot."""
    chance, requests, failed = random.Random(seed), [], []
    for share in errors:
        count = 0
        wait = chance.expovariate(per_minute / 12)
        while wait < 1:
            count, wait = count + 1, wait + chance.expovariate(per_minute / 12)
        requests.append(float(count))
        failed.append(float(sum(chance.random() < share for _ in range(count))))
    return requests, failed


def critical(known: rules.Rule, values: Sequence[float | None]) -> list[preview.Span]:
    return [span for span in preview.replay(known, values).spans if span.severity == "critical"]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_minute", [12, 60, 600])
def test_day_with_one_percent_of_errors_causes_no_critical_alert(seed: int, per_minute: float) -> None:
    known = rule("high_error_rate")
    requests, failed = traffic(seed, per_minute, [0.01] * (DAY if per_minute < 600 else DAY // 12))
    shares = windows.shares(failed, requests, known.over_seconds // 5)
    assert critical(known, shares) == []


@pytest.mark.parametrize("per_minute", [12, 600])
def test_twenty_percent_of_errors_are_found_within_three_minutes(per_minute: float) -> None:
    known, begin, found = rule("high_error_rate"), 720, []
    for seed in range(25):
        requests, failed = traffic(seed, per_minute, [0.01] * begin + [0.2] * 120)
        spans = critical(known, windows.shares(failed, requests, known.over_seconds // 5))
        assert spans, f"seed {seed}: never found"
        found.append((spans[0].start - begin + 1) * 5)
    found.sort()
    assert found[len(found) // 2] <= 180, found


def test_certain_share_is_the_lower_bound_of_wilson() -> None:
    # statsmodels.stats.proportion.proportion_confint(8, 60, method="wilson") = (0.0691, 0.2417)
    assert windows.certain_share(8, 60) == pytest.approx(6.906, abs=0.01)
    assert windows.certain_share(4, 4) == 0, "too few to tell"
    assert windows.certain_share(5, 0) == 0
    assert windows.certain_share(100, 100) == pytest.approx(96.3, abs=0.1)


def test_share_without_samples_is_missing() -> None:
    assert windows.shares([1, None, 6], [10, None, 10], 2) == [0.0, None, pytest.approx(31.27, abs=0.01)]
