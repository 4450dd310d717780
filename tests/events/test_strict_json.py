"""Strict JSON: each broken rule has its code, and accepted values are read back unchanged."""

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import errors, strict_json

BROKEN = {
    b"": "malformed",
    b"{": "malformed",
    b"[1,]": "malformed",
    b'"\xff"': "malformed",
    b"\xef\xbb\xbf1": "malformed",
    b"'a'": "malformed",
    b"01": "malformed",
    b"[NaN]": "not_finite",
    b"-Infinity": "not_finite",
    b"1e400": "number_too_large",
    b"1" * 401: "number_too_large",
    b"1" * 10_000: "number_too_large",
    b"18446744073709551616": "number_too_large",
    b"-9223372036854775809": "number_too_large",
    b'{"a":1,"b":2,"a":3}': "duplicate_key",
    rb'"\ud800"': "lone_surrogate",
    rb'{"\uDFFF":1}': "lone_surrogate",
    rb'"a\u0000"': "nul_character",
    rb'[{"\u0000":1}]': "nul_character",
    b"[" * 65 + b"]" * 65: "too_deep",
    b"[" * 100_000: "too_deep",
    b'{"a":' * 100_000: "too_deep",
    b"[" * 200 + b'"' + b"]" * 200: "too_deep",
}


@pytest.mark.parametrize(("text", "code"), BROKEN.items(), ids=lambda value: str(value[:20]))
def test_broken_rule_is_reported_with_its_code(text, code):
    with pytest.raises(errors.InvalidJson) as refused:
        strict_json.loads(text)
    assert refused.value.code == code


def test_text_above_the_limit_is_rejected_before_parsing():
    with pytest.raises(errors.InvalidJson) as refused:
        strict_json.loads(b"[" + b"1," * 100 + b"1]", max_bytes=100)
    assert (refused.value.code, refused.value.status) == ("too_large", 413)


@pytest.mark.parametrize(
    "text",
    ["[" * 64 + "]" * 64, '"' + "[" * 500 + '"', r'"\"' + "{" * 500 + '"', "[" + "[]," * 500 + "1]", r'"\ud83d\ude00"'],
)
def test_valid_json_that_looks_broken_is_read(text):
    assert strict_json.loads(text) == json.loads(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
)


@given(json_values)
def test_reader_and_check_agree_and_orjson_reads_accepted_text_equally(value):
    text = json.dumps(value)
    accepted = passes(strict_json.check, value)
    assert passes(strict_json.loads, text) == accepted
    if accepted:
        assert strict_json.loads(text) == value == orjson.loads(text)


def passes(check, value):
    try:
        check(value)
    except errors.InvalidJson:
        return False
    return True


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, 2**64, 10**6000, "\ud800", "\0", {"\0": 1}, [{"a": [-(2**64)]}]],
    ids=["nan", "infinite", "large", "unprintable", "surrogate", "nul", "key", "nested"],
)
def test_values_that_storage_would_change_are_rejected(value):
    with pytest.raises(errors.InvalidJson):
        strict_json.check({"deep": [value]})
