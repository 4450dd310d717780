"""Templates: style, compilation and icons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.template.loader import get_template
from django.test import Client

from backoffice import section
from backoffice.templatetags import display
from backoffice.web import offline, timeline
from tests import template_lint

PATHS = sorted(template_lint.TEMPLATES.rglob("*.html"))
NAMES = [str(path.relative_to(template_lint.TEMPLATES)) for path in PATHS]


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_template_has_no_style_problem(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert list(template_lint.problems(text, template_lint.icon_names())) == []


@pytest.mark.parametrize("name", NAMES)
def test_template_compiles(name: str) -> None:
    get_template(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 121 + "\n", "line has 121 characters"),
        ("<p> \n", "trailing whitespace"),
        ("<p>", "no newline"),
        ('{% icon "nowhere" %}\n', "no icon 'nowhere'"),
        ('<p\n  style="color: red">\n', "inline attribute 'style'"),
        ('<a onclick="go()">\n', "inline attribute 'onclick'"),
        ("<script>go()</script>\n", "inline script"),
        ('<img src="x.svg">\n', "image without alt"),
        ('{% if resource.category == "user" %}\n', "branch on the kind of record"),
        ('{% elif x and "user" == group.resource.category %}\n', "branch on the kind of record"),
    ],
)
def test_linter_reports_each_problem(text: str, message: str) -> None:
    found = [text for _line, text in template_lint.problems(text, template_lint.icon_names())]
    assert len(found) == 1
    assert message in found[0]


def test_sprite_has_every_icon_named_in_python() -> None:
    named = {kind.icon for kind in section.kinds()}
    named |= {item.icon for one in section.sections() for item in one.navigation}
    named |= {sign for _verb, sign in timeline.VERBS.values()}
    assert named <= template_lint.icon_names()


def test_icon_refers_to_the_sprite() -> None:
    sprite = r"/static/backoffice/icons(\.\w+)?\.svg"
    expected = rf'<svg class="icon icon-plus" aria-hidden="true"><use href="{sprite}#plus"></use></svg>'
    assert re.fullmatch(expected, display.icon("plus"))


def test_sprite_is_part_of_the_offline_shell(client: Client) -> None:
    assert finders.find("backoffice/icons.svg")
    assert "/static/backoffice/icons.svg" in offline.manifest()["parts"]
