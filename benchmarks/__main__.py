"""`python -m benchmarks [NAME …]`: run benchmarks by name, each in its own process; without names, all quick ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_BY_DEFAULT = {"load", "chaos"}


def names() -> list[str]:
    hidden = {"__init__", "__main__", "harness"}
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in hidden and not path.stem.startswith("_"))


def main(wanted: list[str]) -> int:
    unknown = set(wanted) - set(names())
    if unknown:
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    chosen = wanted or [name for name in names() if name not in NOT_BY_DEFAULT]
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in chosen]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
