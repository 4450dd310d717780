"""Checks of the design without a browser: contrast, translations, content security policy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from django.templatetags.static import static
from django.test import Client

PROJECT = Path(__file__).resolve().parents[3]
TOKENS = (PROJECT / "backoffice/static/backoffice/tokens.css").read_text()
LOCALE = PROJECT / "locale/fr/LC_MESSAGES"
PAIR = re.compile(r"--([\w-]+):\s*light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)")
COLOURS = {name: (light, dark) for name, light, dark in PAIR.findall(TOKENS.split("/* Eight hues")[0])}

TEXT_ON = [
    *(
        (ink, ground)
        for ink in ("ink", "ink-soft", "ink-quiet", "accent")
        for ground in ("ground", "surface", "raised")
    ),
    *((ink, ground) for ink in ("ink", "ink-soft", "ink-quiet") for ground in ("sunk", "hover")),
    *((f"{kind}", f"{kind}-ground") for kind in ("good", "warn", "bad", "info")),
    ("accent-strong", "accent-ground"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("on-bad", "bad"),
    ("bad", "surface"),
]


def luminance(colour: str) -> float:
    """Returns the relative luminance of WCAG 2.2."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT_ON)
def test_text_has_enough_contrast(ink: str, ground: str, theme: int) -> None:
    assert contrast(COLOURS[ink][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_edges_of_inputs_have_enough_contrast(theme: int) -> None:
    assert contrast(COLOURS["line-strong"][theme], COLOURS["surface"][theme]) >= 3


def test_initials_have_enough_contrast_in_every_hue() -> None:
    hues = re.findall(r"--hue-ink: light-dark\((\S+), (\S+)\); --hue-ground: light-dark\((\S+), (\S+)\)", TOKENS)
    assert len(hues) == 8
    for light_ink, dark_ink, light_ground, dark_ground in hues:
        assert contrast(light_ink, light_ground) >= 4.5
        assert contrast(dark_ink, dark_ground) >= 4.5


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_every_text_is_translated_to_french(domain: str) -> None:
    text = (LOCALE / f"{domain}.po").read_text()
    assert "#, fuzzy" not in text
    for entry in text.split("\n\n")[1:]:
        translations = re.findall(r'^msgstr(?:\[\d\])? ((?:".*"\n?)+)', entry, re.MULTILINE)
        assert translations, entry
        assert all("".join(re.findall(r'"(.*)"', one)) for one in translations), entry


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_french_uses_its_own_typography(domain: str) -> None:
    """No line begins with a punctuation mark; curved apostrophes; one spelling of "évènement" and "e-mail"."""
    text = (LOCALE / f"{domain}.po").read_text()
    french = re.findall(r'^msgstr(?:\[\d\])? ((?:".*"\n?)+)', text.partition("\n\n")[2], re.MULTILINE)
    lines = ["".join(re.findall(r'"(.*)"', one)) for one in french]
    assert len(lines) > 100
    for line in lines:
        assert not re.search(r"[ \w][;?!»]|[ a-zà-ÿ]: |« |\w'\w", line), line
        assert not re.search(r"événement|adresse électronique", line, re.IGNORECASE), line


@pytest.mark.parametrize("domain", ["django", "djangojs"])
def test_compiled_catalogue_is_current(domain: str, tmp_path: Path) -> None:
    """Compares entries, because the header depends on the compiler."""
    import ast
    import gettext

    with (LOCALE / f"{domain}.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
    written = {}
    for entry in (LOCALE / f"{domain}.po").read_text().split("\n\n")[1:]:
        parts = re.findall(r'^(msg\w+)(?:\[(\d)\])? ((?:".*"\n?)+)', entry, re.MULTILINE)
        texts = {
            (name, number): "".join(ast.literal_eval(line) for line in lines.strip().split("\n"))
            for name, number, lines in parts
        }
        source, plural = texts[("msgid", "")], texts.get(("msgid_plural", ""))
        context = f"{texts[('msgctxt', '')]}\x04" if ("msgctxt", "") in texts else ""
        if plural is None:
            written[context + source] = texts[("msgstr", "")]
        else:
            written |= {(context + source, n): texts[("msgstr", str(n))] for n in (0, 1)}
    assert {key: text for key, text in compiled.items() if key != ""} == written


def test_no_template_has_inline_script_or_style() -> None:
    for path in (PROJECT / "templates").rglob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text), path
        assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", text), path


PARSE = """
import { readFileSync } from "node:fs";
import { SourceTextModule } from "node:vm";
for (const path of JSON.parse(readFileSync(0, "utf-8"))) {
    new SourceTextModule(readFileSync(path, "utf-8"), { identifier: path });
}
"""


def test_javascript_modules_parse() -> None:
    """Needs Node; the browser tests run the modules anyway."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node")
    paths = sorted(str(path) for path in (PROJECT / "backoffice/static/backoffice").rglob("*.js"))
    assert paths
    command = [node, "--experimental-vm-modules", "--input-type=module", "--eval", PARSE]
    done = subprocess.run(command, input=json.dumps(paths), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_static_file_is_served_whole_in_ranges_and_with_304(client: Client) -> None:
    """The response is not streamed: under ASGI Django would buffer the stream and warn about that."""
    address, text = static("backoffice/tokens.css"), TOKENS.encode()
    whole = client.get(address)
    assert (whole.status_code, whole.streaming, whole.content) == (200, False, text)
    assert whole["Content-Type"].startswith("text/css")
    part = client.get(address, headers={"Range": "bytes=3-12"})
    assert (part.status_code, part.content) == (206, text[3:13])
    again = client.get(address, headers={"If-Modified-Since": whole["Last-Modified"]})
    assert (again.status_code, again.content) == (304, b"")
    head = client.head(address)
    assert (head.status_code, head["Content-Length"], head.content) == (200, str(len(text)), b"")


def test_words_with_two_meanings_have_a_translation_for_each() -> None:
    from django.utils.translation import gettext, override, pgettext

    with override("fr"):
        assert pgettext("value", "removed") != gettext("removed"), "of a value, and what somebody did"
        assert pgettext("filter", "Open") != gettext("Open"), "several conflicts, and one"
        assert pgettext("subscription", "Running") != gettext("Operations")
