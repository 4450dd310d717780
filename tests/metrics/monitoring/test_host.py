"""Processor and memory of the host, within the limits of its container: trees of /proc and /sys/fs/cgroup."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics.monitoring.probes.host import Host, Paths

GIB = 2**30
SIXTEEN = range(16)
MEMINFO = f"MemTotal: {64 * GIB // 1024} kB\nMemFree: 1024 kB\nMemAvailable: {48 * GIB // 1024} kB\n"


class Tree:
    """A tree of /proc and /sys/fs/cgroup; times are in seconds of 100 ticks each."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(proc=root / "proc", cgroup=root / "cgroup", disk=root / "data" / "none yet")
        self.write("proc/meminfo", MEMINFO)
        self.write("proc/loadavg", "8.00 4.00 2.00 1/100 1234\n")
        self.root = root

    def write(self, name: str, text: object) -> None:
        path = self.paths.proc.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def processors(self, busy: float, total: float) -> None:
        """Each of sixteen processors has been busy for `busy` of `total` seconds."""
        row = f"{int(busy * 100)} 0 0 {int((total - busy) * 100)} 0 0 0 0 0 0"
        self.write("proc/stat", "\n".join([f"cpu  {row}", *(f"cpu{n} {row}" for n in SIXTEEN), "intr 1"]))

    def version_2(self, group: str, quota: str, *, memory: str = "max") -> None:
        self.write("cgroup/cgroup.controllers", "cpu memory")
        self.write("proc/self/cgroup", f"0::{group}")
        self.write(f"cgroup{group}/cpu.max", quota)
        self.write(f"cgroup{group}/memory.max", memory)

    def used_2(self, group: str, seconds: float, *, throttled: int = 0, periods: int = 0) -> None:
        self.write(
            f"cgroup{group}/cpu.stat",
            f"usage_usec {int(seconds * 1e6)}\nuser_usec 1\nnr_periods {periods}\nnr_throttled {throttled}",
        )


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_first_reading_is_missing_and_not_zero(tree: Tree) -> None:
    tree.processors(10, 100)
    assert Host(tree.paths, SIXTEEN).read()["cpu.percent"] is None
    assert Host(tree.paths, SIXTEEN).cpu(0.0) == (None, None)


def test_reading_right_after_another_repeats_it(tree: Tree) -> None:
    """psutil#1095: two readings within a millisecond gave 100 and 0."""
    host = Host(tree.paths, SIXTEEN)
    for at, busy in ((0.0, 10.0), (10.0, 14.0)):
        tree.processors(busy, 100 + at)
        host.cpu(at)
    tree.processors(14.01, 110.01)
    assert host.cpu(10.001) == (pytest.approx(40.0), 0.0)


@pytest.mark.parametrize("group", ["/", "/docker/1234", "/a/b/c"])
def test_half_a_processor_that_is_busy_is_100_percent(tree: Tree, group: str) -> None:
    """psutil#2100: a container limited to half of one of sixteen processors, in a busy loop."""
    tree.version_2(group, "50000 100000")
    host = Host(tree.paths, SIXTEEN)
    tree.processors(10, 100)
    tree.used_2(group, 7.0, throttled=0, periods=10)
    host.cpu(0.0)
    tree.processors(10.5 / 16 + 10, 110)
    tree.used_2(group, 12.0, throttled=40, periods=110)
    assert host.cpu(10.0) == (pytest.approx(100.0), pytest.approx(40.0))


def test_quota_of_a_group_above_counts_with_the_use_of_that_group(tree: Tree) -> None:
    tree.version_2("/pod/container", "max 100000")
    tree.write("cgroup/pod/cpu.max", "200000 100000")
    host = Host(tree.paths, SIXTEEN)
    tree.used_2("/pod", 10)
    tree.used_2("/pod/container", 5)
    host.cpu(0.0)
    tree.used_2("/pod", 20)
    tree.used_2("/pod/container", 5.1)
    assert host.cpu_limit() == 2.0
    assert host.cpu(10.0)[0] == pytest.approx(50.0)


def test_without_quota_the_processors_of_the_affinity_count(tree: Tree) -> None:
    tree.version_2("/", "max 100000")
    tree.processors(10, 100)
    host = Host(tree.paths, [2, 3])
    host.cpu(0.0)
    tree.processors(15, 110)
    assert (host.cpu_limit(), host.cpu(10.0)[0]) == (2.0, pytest.approx(50.0))


def test_version_1_has_quota_and_use_in_two_folders(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "4:memory:/docker/12\n3:cpu,cpuacct:/docker/12\n0::/")
    tree.write("cgroup/cpu/docker/12/cpu.cfs_quota_us", 50_000)
    tree.write("cgroup/cpu/docker/12/cpu.cfs_period_us", 100_000)
    tree.write("cgroup/cpu/docker/12/cpu.stat", "nr_periods 0\nnr_throttled 0\nthrottled_time 0")
    tree.write("cgroup/cpuacct/docker/12/cpuacct.usage", 1_000_000_000)
    host = Host(tree.paths, SIXTEEN)
    host.cpu(0.0)
    tree.write("cgroup/cpuacct/docker/12/cpuacct.usage", 3_500_000_000)
    tree.write("cgroup/cpu/docker/12/cpu.stat", "nr_periods 100\nnr_throttled 25\nthrottled_time 9")
    assert host.cpu(10.0) == (pytest.approx(50.0), 25.0)


def test_version_1_without_quota_counts_the_host(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "3:cpu,cpuacct:/")
    tree.write("cgroup/cpu/cpu.cfs_quota_us", -1)
    tree.processors(0, 100)
    host = Host(tree.paths, SIXTEEN)
    host.cpu(0.0)
    tree.processors(2.5, 110)
    assert host.cpu(10.0)[0] == pytest.approx(25.0)


def test_counters_that_begin_again_are_missing(tree: Tree) -> None:
    tree.processors(50, 100)
    host = Host(tree.paths, SIXTEEN)
    host.cpu(0.0)
    tree.processors(1, 2)
    assert host.cpu(10.0) == (None, None)
    tree.processors(3, 12)
    assert host.cpu(20.0)[0] == pytest.approx(20.0)


def test_unreadable_processor_times_are_missing(tree: Tree) -> None:
    host = Host(tree.paths, SIXTEEN)
    host.cpu(0.0)
    assert host.cpu(10.0) == (None, None)


def test_memory_is_that_of_the_limit_without_the_file_cache(tree: Tree) -> None:
    tree.version_2("/docker/12", "max 100000", memory=str(GIB))
    tree.write("cgroup/docker/12/memory.current", 768 * 2**20)
    tree.write("cgroup/docker/12/memory.stat", f"anon 1\ninactive_file {256 * 2**20}")
    assert Host(tree.paths, SIXTEEN).memory() == pytest.approx(50.0)


def test_memory_of_version_1_with_and_without_limit(tree: Tree) -> None:
    tree.write("proc/self/cgroup", "4:memory:/docker/12")
    tree.write("cgroup/memory/docker/12/memory.limit_in_bytes", 2 * GIB)
    tree.write("cgroup/memory/docker/12/memory.usage_in_bytes", GIB)
    tree.write("cgroup/memory/docker/12/memory.stat", f"cache 1\ntotal_inactive_file {GIB // 2}")
    assert Host(tree.paths, SIXTEEN).memory() == pytest.approx(25.0)
    tree.write("cgroup/memory/docker/12/memory.limit_in_bytes", 9_223_372_036_854_771_712)
    assert Host(tree.paths, SIXTEEN).memory() == pytest.approx(25.0)  # of the host: 48 of 64 GiB are available


def test_unlimited_memory_is_that_of_the_host(tree: Tree) -> None:
    tree.version_2("/", "max 100000")
    assert Host(tree.paths, SIXTEEN).memory() == pytest.approx(25.0)


def test_load_is_for_each_processor_of_the_host(tree: Tree) -> None:
    tree.processors(1, 2)
    assert Host(tree.paths, [0]).load() == 0.5


def test_unreadable_files_are_missing_and_the_rest_is_read(tree: Tree) -> None:
    (tree.paths.proc / "meminfo").unlink()
    found = Host(tree.paths, SIXTEEN).read()
    assert (found["memory.percent"], found["cpu.percent"]) == (None, None)
    assert 0 < (found["disk.free"] or 0) <= 100  # of the nearest folder that exists


def test_this_machine_can_be_read() -> None:
    found = Host(Paths()).read()
    assert 0 < (found["memory.percent"] or 0) <= 100
    assert found["load.per_cpu"] is not None
