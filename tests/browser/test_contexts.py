"""Browser contexts that tests use one after the other (`tests.browser_contexts`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests import live
from tests.browser_contexts import KeptContexts

pytestmark = [pytest.mark.browser, pytest.mark.services]


def test_context_whose_page_was_closed_is_taken_again_without_its_stored_data(
    new_page: Callable[..., Any], kept_contexts: KeptContexts, stack: live.Stack
) -> None:
    options = {"base_url": stack.url, "service_workers": "block", "locale": "de"}
    context = kept_contexts.take(options)
    page = context.new_page()
    page.goto("/livez")
    page.evaluate("localStorage.setItem('typed', 'text')")
    page.close()
    kept_contexts.give_back(context)
    again = kept_contexts.take(options)
    assert again is context
    page = again.new_page()
    page.goto("/livez")
    assert page.evaluate("localStorage.length") == 0
    kept_contexts.give_back(again)
