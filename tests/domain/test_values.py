"""E-mail addresses, names and titles in their normal form."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice import values

SPELLINGS = (
    "post@bücher.example",
    "post@xn--bcher-kva.example",
    unicodedata.normalize("NFD", "post@bücher.example"),
    "POST@BÜCHER.EXAMPLE",
    "POST@XN--BCHER-KVA.example",
    "ｐｏｓｔ@bücher。example",
    "  post@bücher．example ",
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_all_spellings_of_a_mailbox_have_one_normal_form(spelling: str) -> None:
    assert values.normal_email(spelling) == "post@bücher.example"


def test_composed_and_decomposed_local_parts_are_one_mailbox() -> None:
    assert values.normal_email("Zoe\u0308@example.org") == values.normal_email("zoë@EXAMPLE.org") == "zoë@example.org"


def test_sharp_s_and_double_s_are_two_domains() -> None:
    assert values.normal_email("a@xn--fa-hia.de") == values.normal_email("a@faß.de") == "a@faß.de"
    assert values.normal_email("a@fass.de") == "a@fass.de"


HIDDEN = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\xad", "͏", "ᅟ", "ㅤ", "ﾠ", "️", "󠄀", "⠀"]
TURNING = ["\u200e", "\u200f", "\u061c", "\u202a", "\u202e", "\u2066", "\u2069"]
CONTROL = ["\x07", "\x7f", "\x85"]


@pytest.mark.parametrize("character", [*HIDDEN, *TURNING, *CONTROL], ids=lambda c: f"{ord(c):04X}")
@pytest.mark.parametrize("address", ["a{}da@example.org", "ada@exa{}mple.org", "ada{}@bücher.example"])
def test_address_with_an_invisible_character_is_refused(character: str, address: str) -> None:
    with pytest.raises(ValueError, match=r"invisible character U\+|valid email"):
        values.normal_email(address.format(character))


@pytest.mark.parametrize(
    "address",
    ["a@xn--.org", "a@xn--abc-.org", "a@xn--zzzzzzzzzzz9999.org", "a@xn--BCHER-KVA99.org", "a@" + "ü" * 80 + ".org"],
)
def test_domain_without_a_valid_ascii_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="valid email"):
        values.normal_email(address)


def test_long_text_is_refused_before_it_is_normalised() -> None:
    with pytest.raises(ValueError, match="valid email"):
        values.normal_email("\ufdfa" * 1_000_000)


ADDRESSES = st.text(max_size=12).map(lambda text: f"a{text}@{text}b.example") | st.text(max_size=30)


@given(ADDRESSES)
def test_normal_form_is_idempotent(text: str) -> None:
    once = values.mailbox(text)
    try:
        address = values.normal_email(text)
    except ValueError:
        return
    assert address == once == values.mailbox(address) == values.normal_email(address)
    assert values.normal_email(unicodedata.normalize("NFD", address)) == address


@pytest.mark.parametrize("character", [*TURNING, "\u200b", "\ufeff", "\x07", "\u00ad"], ids=lambda c: f"{ord(c):04X}")
def test_invisible_characters_are_removed_from_a_name(character: str) -> None:
    assert values.normal_name(f"Ada{character} Love{character}lace") == "Ada Lovelace"


def test_name_keeps_joiners_and_is_composed() -> None:
    assert values.normal_name("نمی\u200cخواهم") == "نمی\u200cخواهم"
    assert (
        values.normal_name("Party \U0001f469\u200d\U0001f680 \u2764\ufe0f")
        == "Party \U0001f469\u200d\U0001f680 \u2764\ufe0f"
    )
    assert values.normal_name(" Zoe\u0308   Quimper") == "Zoë Quimper"
