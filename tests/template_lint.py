"""Style checks for HTML templates: `python -m tests.template_lint` in `make lint`, and `test_templates.py`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "templates"
SPRITE = ROOT / "backoffice" / "static" / "backoffice" / "icons.svg"
MAX_LENGTH = 120

_INLINE = re.compile(r"\s(on[a-z]+|style)\s*=", re.IGNORECASE)
_TEMPLATE_TAG = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)
_SCRIPT = re.compile(r"<script(?![^>]*(?:\bsrc=|application/json))[^>]*>|<style\b", re.DOTALL)
_ICON = re.compile(r"\{% icon \"([\w-]+)\" %\}")
_KIND_BRANCH = re.compile(r"\{%\s*(?:el)?if\b[^%]*(?:\bcategory|\bfact\.name)\b")
_IMAGE = re.compile(r"<img\b[^>]*>", re.DOTALL)


def icon_names() -> set[str]:
    """The icons in the sprite."""
    return set(re.findall(r'<symbol id="([\w-]+)"', SPRITE.read_text(encoding="utf-8")))


def problems(text: str, icons: set[str]) -> Iterator[tuple[int, str]]:
    """Line numbers and messages of every problem in a template."""
    yield from _layout(text)
    # Template tags are blanked out, so that their text is not mistaken for HTML.
    html = _TEMPLATE_TAG.sub(lambda match: re.sub(r"[^\n]", "x", match[0]), text)
    found = [
        *((match, f"the sprite has no icon {match[1]!r}") for match in _ICON.finditer(text) if match[1] not in icons),
        # A shared template asks the kind for its template of a part instead: `resource.template_icon`.
        *((match, "branch on the kind of record") for match in _KIND_BRANCH.finditer(text)),
        # The content security policy forbids these two.
        *((match, f"inline attribute {match[1]!r}") for match in _INLINE.finditer(html)),
        *((match, "inline script or style") for match in _SCRIPT.finditer(html)),
        *((match, "image without alt") for match in _IMAGE.finditer(html) if "alt=" not in match[0]),
    ]
    for match, message in found:
        yield text.count("\n", 0, match.start()) + 1, message


def _layout(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > MAX_LENGTH:
            yield number, f"line has {len(line)} characters, at most {MAX_LENGTH} are allowed"
        if line != line.rstrip():
            yield number, "trailing whitespace"
        if "\t" in line:
            yield number, "tab character"
    if not text.endswith("\n"):
        yield text.count("\n") + 1, "no newline at the end of the file"


def main() -> int:
    icons, failures = icon_names(), 0
    for path in sorted(TEMPLATES.rglob("*.html")):
        for number, message in problems(path.read_text(encoding="utf-8"), icons):
            print(f"{path.relative_to(ROOT)}:{number}: {message}")
            failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
