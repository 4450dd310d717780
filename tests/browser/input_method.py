"""Typing with an input method, through the DevTools protocol."""

from __future__ import annotations

from typing import Any


class InputMethod:
    """Composes text as an input method does: shows what is composed, then replaces it by the chosen characters."""

    def __init__(self, page: Any) -> None:
        self.session = page.context.new_cdp_session(page)

    def compose(self, text: str) -> None:
        selected = {"selectionStart": len(text), "selectionEnd": len(text)}
        self.session.send("Input.imeSetComposition", {"text": text, **selected})

    def commit(self, text: str) -> None:
        self.session.send("Input.insertText", {"text": text})
