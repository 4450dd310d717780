"""Measures how costs grow with the data.

`--rows` are sizes of the log (`benchmarks.growth.log`), of which an append must stay near a raw `INSERT`. `--sizes` are
numbers of versions, events or records (`benchmarks.growth.operations`): an operation that reads more rows or sends more
statements at the last size than at the first is named, and the exit code is 1.

`python -m benchmarks growth --rows 1000000 50000000` takes an hour, `--rows --sizes 1000 8000` a minute.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks import harness
from benchmarks.growth import log


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 8_000])
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    grown: list[str] = []
    with harness.services():
        from benchmarks.growth import operations

        if options.sizes:
            grown = operations.run(sorted(options.sizes))
        if options.rows:
            log.run(options.rows, options.seconds, options.rounds)
    if grown:
        print(f"The cost grows with the data: {', '.join(grown)}.", file=sys.stderr)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
