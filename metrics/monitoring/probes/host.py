"""The host as this process sees it: processor, memory, disk and load, within the limits of its container.

Read from /proc and /sys/fs/cgroup, version 1 or 2. The processor time is a difference of two readings, so the first one
has no value. In a container its limit counts: a limit of half a processor that is used up is 100 %, on any host.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SHORTEST: Final = 0.5  # seconds between two readings; a shorter difference is noise
UNLIMITED: Final = 1 << 60  # version 1 shows "no limit" as a number near 2^63
MICRO: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Processor seconds used since some start, at an instant of `time.monotonic`; periods of the quota."""

    at: float
    used: float
    throttled: int
    periods: int


@dataclass(frozen=True, slots=True)
class Paths:
    """The folders to read; tests use copies of trees."""

    proc: Path = Path("/proc")
    cgroup: Path = Path("/sys/fs/cgroup")
    disk: Path = Path()


class Host:
    """Reads the figures of one host; keeps the last reading of the processor times."""

    def __init__(self, paths: Paths, affinity: Collection[int] | None = None) -> None:
        self._paths = paths
        self._cpus = {f"cpu{number}" for number in affinity or os.sched_getaffinity(0)}
        self._last: CpuTimes | None = None
        self._shares: tuple[float | None, float | None] = (None, None)

    def read(self) -> dict[str, float | None]:
        """The values of this host's metrics by name; None where one cannot be read."""
        percent, throttled = self.cpu(time.monotonic())
        return {
            "cpu.percent": percent,
            "cpu.throttled": throttled,
            "memory.percent": _or_none(self.memory),
            "disk.free": _or_none(self.disk_free),
            "load.per_cpu": _or_none(self.load),
        }

    # -- processor ----------------------------------------------------------------------------------------------------

    def cpu(self, now: float) -> tuple[float | None, float | None]:
        """The percentage of the limit that was used since the last reading, and of the periods that were throttled.

        None for the first reading. A reading right after another one repeats its result.
        """
        if self._last is not None and now - self._last.at < SHORTEST:
            return self._shares
        try:
            limit, folder = self._limit()
            times = self._times(now, folder)
        except (OSError, ValueError, IndexError):
            self._last, self._shares = None, (None, None)
            return self._shares
        before, self._last = self._last, times
        if before is None or times.used < before.used:  # the counters of a restored container begin again
            self._shares = (None, None)
            return self._shares
        percent = (times.used - before.used) / ((now - before.at) * limit) * 100
        periods = times.periods - before.periods
        throttled = (times.throttled - before.throttled) / periods * 100 if periods > 0 else 0.0
        self._shares = (min(percent, 100.0), min(throttled, 100.0))
        return self._shares

    def cpu_limit(self) -> float:
        """Processors that may be used: the smallest quota of the group and those above it, or the affinity."""
        return self._limit()[0]

    def _limit(self) -> tuple[float, Path | None]:
        """The limit in processors, and the folder of the group whose quota it is; None: the affinity."""
        whole: tuple[float, Path | None] = (float(len(self._cpus)), None)
        return min([whole, *self._quotas()], key=lambda found: found[0])

    def _quotas(self) -> Iterator[tuple[float, Path]]:
        for folder in self._v2():
            quota, _space, period = _text(folder / "cpu.max").partition(" ")
            if quota.isdecimal():
                yield int(quota) / int(period or 100_000), folder
        for folder in self._v1("cpu"):
            quota = _text(folder / "cpu.cfs_quota_us")
            if quota.isdecimal() and int(quota):
                yield int(quota) / int(_text(folder / "cpu.cfs_period_us") or 100_000), folder

    def _times(self, now: float, folder: Path | None) -> CpuTimes:
        """The times of the group with the quota; without a quota those of the processors that may be used."""
        if folder is not None:
            stat = _pairs(folder / "cpu.stat")
            throttled, periods = stat.get("nr_throttled", 0), stat.get("nr_periods", 0)
            if "usage_usec" in stat:
                return CpuTimes(now, stat["usage_usec"] / MICRO, throttled, periods)
            group = folder.relative_to(self._paths.cgroup / "cpu")
            used = int(_text(self._paths.cgroup / "cpuacct" / group / "cpuacct.usage"))
            return CpuTimes(now, used / 1e9, throttled, periods)
        rows = [line.split() for line in _text(self._paths.proc / "stat").splitlines()]
        fields = [[int(one) for one in row[1:9]] for row in rows if row[0] in self._cpus]
        if not fields:
            raise ValueError("no processor of this process is in /proc/stat")
        busy = sum(sum(row) - row[3] - row[4] for row in fields)
        return CpuTimes(now, busy / os.sysconf("SC_CLK_TCK"), 0, 0)

    # -- memory, disk, load -------------------------------------------------------------------------------------------

    def memory(self) -> float | None:
        """The percentage of the limit that is used, without the file cache that the kernel would give back."""
        info = {name: size * 1024 for name, size in _pairs(self._paths.proc / "meminfo").items()}
        total = info.get("MemTotal:", UNLIMITED)
        limited = min(self._memory_groups(), default=None)
        if limited is not None and limited[0] < total:
            return 100 * limited[1] / limited[0]
        return 100 * (1 - info["MemAvailable:"] / total)

    def _memory_groups(self) -> Iterator[tuple[int, int]]:
        """(limit, used) of each limited group, from this one upwards."""
        for folder in self._v2():
            limit = _text(folder / "memory.max")
            if limit.isdecimal():
                used = int(_text(folder / "memory.current"))
                yield int(limit), used - _pairs(folder / "memory.stat").get("inactive_file", 0)
        for folder in self._v1("memory"):
            limit = _text(folder / "memory.limit_in_bytes")
            if limit.isdecimal() and int(limit) < UNLIMITED:
                used = int(_text(folder / "memory.usage_in_bytes"))
                yield int(limit), used - _pairs(folder / "memory.stat").get("total_inactive_file", 0)

    def disk_free(self) -> float:
        """The percentage of the disk of the data folder that is free."""
        folder = next(path for path in (self._paths.disk, *self._paths.disk.parents) if path.exists())
        usage = shutil.disk_usage(folder)
        return 100 * usage.free / usage.total

    def load(self) -> float:
        """The load of the whole host for each of its processors."""
        machine = _text(self._paths.proc / "stat").count("\ncpu") or len(self._cpus)
        return float(_text(self._paths.proc / "loadavg").split()[0]) / machine

    # -- the groups of this process -----------------------------------------------------------------------------------

    def _v2(self) -> Iterator[Path]:
        """The folders of this process's group of version 2 and of those above it."""
        if (self._paths.cgroup / "cgroup.controllers").exists():
            yield from self._upwards(self._paths.cgroup, self._group(""))

    def _v1(self, controller: str) -> Iterator[Path]:
        if (self._paths.cgroup / controller).exists():
            yield from self._upwards(self._paths.cgroup / controller, self._group(controller))

    def _group(self, controller: str) -> str:
        """This process's group for a controller, from lines such as ``4:cpu,cpuacct:/docker/1234``."""
        for line in _text(self._paths.proc / "self" / "cgroup").splitlines():
            _number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if controller in controllers.split(","):
                return path
        return "/"

    @staticmethod
    def _upwards(root: Path, group: str) -> Iterator[Path]:
        """The group's folder and those above it. In a container its own folder is often mounted as the root."""
        parts = [part for part in group.split("/") if part not in {"", ".."}]
        for count in range(len(parts), -1, -1):
            folder = root.joinpath(*parts[:count])
            if folder.is_dir():
                yield folder


def _text(path: Path) -> str:
    """The text of a file, empty when there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pairs(path: Path) -> dict[str, int]:
    """The first two words of each line, as in ``memory.stat`` and ``meminfo``."""
    rows = [line.split() for line in _text(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdecimal()}


def _or_none(read: Callable[[], float | None]) -> float | None:
    try:
        return read()
    except (OSError, ValueError, KeyError, IndexError, StopIteration):
        return None
