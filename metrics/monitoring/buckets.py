"""Histograms of durations with fixed buckets, so that those of processes and of minutes can be added.

Bucket 0 ends at a tenth of a millisecond and each following one is a tenth longer; the last one, at about six
minutes, has no end. A percentile is exact to within 5 %. A merged percentile comes from added counts: the mean of
percentiles is not one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

SIZE: Final = 160
FACTOR: Final = 1.1
FIRST: Final = 1e-4  # seconds, the end of bucket 0
_PER_BUCKET: Final = 1 / math.log(FACTOR)
_LOG_FIRST: Final = math.log(FIRST)


def index(seconds: float) -> int:
    """The bucket of a duration in seconds."""
    if seconds <= FIRST:
        return 0
    return min(SIZE - 1, math.ceil((math.log(seconds) - _LOG_FIRST) * _PER_BUCKET - 1e-9))


def upper(bucket: int) -> float:
    """The end of a bucket in seconds."""
    return FIRST * FACTOR**bucket


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The duration in seconds that a `share` (0 to 1) of the requests did not exceed; None without requests.

    The result is the middle of a bucket on the logarithmic scale: its error is half of that of either end.
    """
    total = sum(counts)
    if not total:
        return None
    rank, seen = max(1, math.ceil(total * share)), 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return upper(bucket) / math.sqrt(FACTOR)
    raise AssertionError("the ranks of a histogram end at its total")
