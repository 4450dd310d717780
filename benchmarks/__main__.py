"""Runs benchmarks by name, each in its own process: `python -m benchmarks [NAME …] [--option …]`.

Without names it runs all quick ones. Every benchmark gets the same options.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_BY_DEFAULT = {"load", "chaos", "growth", "lists", "dataset"}


def names() -> list[str]:
    hidden = {"__init__", "__main__", "harness"}
    modules = [path.stem for path in HERE.glob("*.py") if path.stem not in hidden and not path.stem.startswith("_")]
    return sorted([*modules, *(path.parent.name for path in HERE.glob("*/__main__.py"))])


def main(arguments: list[str]) -> int:
    if arguments and arguments[0] in {"-h", "--help"}:
        print(f"{str(__doc__).strip()}\n\nThere are: {', '.join(names())}")
        return 0
    cut = next((n for n, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    wanted, options = arguments[:cut], arguments[cut:]
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    chosen = wanted or [name for name in names() if name not in NOT_BY_DEFAULT]
    commands = [[sys.executable, "-m", f"benchmarks.{name}", *options] for name in chosen]
    codes = [subprocess.run(command, check=False).returncode for command in commands]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
