"""The repaint of a dashboard in Chromium: twelve charts of 600 points take a sample, beside bare uPlot with equal data.

The page is the product's own, served by our web process from a temporary database. Each round gives every tile the
values of a new slot and draws; the reference moves the data of twelve plots that have nothing but a line and axes.
Times are those of scripts, in one page, alternating. Needs Playwright and a Chromium (`CHROMIUM=/path`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

from benchmarks import harness
from benchmarks.load.__main__ import sign_in
from devtools import processes

CHARTS: Final = 12
SLOTS: Final = 600
GOAL: Final = 2.0
READY_SECONDS: Final = 60.0
NAMES: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

FILL: Final = """
insert into metrics_sample (slot, source, v)
select slot, 'cluster', (select array_agg((50 + 40 * sin(slot / 40.0 + place))::real order by place)
                           from generate_series(1, %(width)s) place)
  from generate_series(%(newest)s - %(slots)s + 1, %(newest)s) slot
on conflict do nothing
"""

MEASURE: Final = """
async ({ rounds }) => {
  const page = document.querySelector("script[type=module][src*='dashboard/page.js']").src;
  const { MetricTile } = await import(page.replace("page.js", "metric_tile.js"));
  const { default: uPlot } = await import(page.replace("dashboard/page.js", "vendor/uplot/uPlot.esm.js"));
  const settings = { historyUrl: "", range: "", zone: "UTC", redraw: () => {} };
  const elements = [...document.querySelectorAll("[data-tile]")];
  const tiles = elements.map((element) => new MetricTile(element, settings));
  const points = tiles.map((tile) => tile.live.points.length);
  const columns = tiles.map((tile) => [tile.live.points.map((p) => p[0]), tile.live.points.map((p) => p[2])]);
  const plots = elements.map((element, number) => {
    const box = document.createElement("div");
    document.body.append(box);
    const { width, height } = element.querySelector("canvas").getBoundingClientRect();
    const options = { width, height, legend: { show: false }, series: [{}, { stroke: "black" }] };
    return new uPlot(options, columns[number], box);
  });
  const drawn = async () => { for (let turn = 0; turn < 5; turn += 1) await Promise.resolve(); };
  const ours = [], alone = [];
  for (let round = 1; round <= rounds; round += 1) {
    let started = performance.now();
    for (const tile of tiles) {
      const slot = tile.slot + 1;
      tile.take({ slot, previous: tile.slot, values: { [tile.live.metric]: 50 + 40 * Math.sin(slot / 40) } });
      tile.draw();
    }
    await drawn();
    ours.push(performance.now() - started);
    for (const [times, values] of columns) {
      times.push(times.at(-1) + 5), times.shift();
      values.push(50 + 40 * Math.sin(round / 40)), values.shift();
    }
    started = performance.now();
    plots.forEach((plot, number) => plot.setData(columns[number]));
    await drawn();
    alone.push(performance.now() - started);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return { ours, alone, points };
}
"""


@contextlib.contextmanager
def web() -> Iterator[str]:
    """Our web process on these services; yields its address."""
    port = processes.free_port()
    program = [sys.executable, "-m", "realtime.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(program, env=os.environ | {"PORT": str(port)})
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/livez", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    try:
        if not processes.wait_until(is_ready, READY_SECONDS):
            raise RuntimeError("the web process did not start")
        yield address
    finally:
        process.terminate()
        process.wait()


def prepare() -> str:
    """Samples of an hour, and a dashboard of charts; returns the session of its owner."""
    from django.utils import timezone

    from backoffice.models import Staff
    from events import store
    from metrics.dashboard.models import SavedLayout
    from metrics.monitoring.history import tables
    from metrics.monitoring.metric_types import METRICS, SIZES

    newest = tables.present_slot()
    for slot in (newest - SLOTS, newest):
        tables.create_partitions(slot)
    store.execute(FILL, {"width": SIZES["cluster"], "newest": newest, "slots": SLOTS + 5})
    session, _origin = sign_in()
    names = [name for name, one in METRICS.items() if one.group == "cluster" and one.kind == "gauge"][:CHARTS]
    tiles = [
        {"id": f"t{n}", "kind": "metric", "w": 2, "h": 2, "options": {"metric": name, "view": "chart"}}
        for n, name in enumerate(names)
    ]
    person = Staff.objects.get(username="load")
    body = {"schema": 1, "tiles": tiles}
    SavedLayout.objects.create(person=person, version=1, body=body, updated_at=timezone.now())
    return session


def measure(address: str, session: str, rounds: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1600, "height": 1200})
        context.add_cookies([{"name": "sessionid", "value": session, "url": address}])
        page = context.new_page()
        page.goto(f"{address}/admin/?range=50m")  # 600 points, the most that a chart has
        page.wait_for_function(f"document.querySelectorAll('[data-tile] canvas').length === {CHARTS}")
        found: dict[str, Any] = page.evaluate(MEASURE, {"rounds": rounds})
        browser.close()
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.repaint")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args(arguments)
    os.environ |= {"LOG_LEVEL": "WARNING", "DEBUG": "1"}
    with harness.services():
        session = prepare()
        with web() as address:
            found = measure(address, session, options.rounds)
    ours, alone = (statistics.median(found[name]) for name in ("ours", "alone"))
    title = f"Repaint of {CHARTS} charts, {min(found['points'])} points each"
    rows = [{"page": "bare uPlot", "ms": alone, "ratio": 1.0}, {"page": "dashboard", "ms": ours, "ratio": ours / alone}]
    harness.table(title, rows)
    harness.save("repaint", {"rows": rows, "points": found["points"], "passed": ours / alone <= GOAL})
    return 0 if ours / alone <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
