"""Browser contexts that are emptied and used again. Their HTTP cache stays: pages load in a third of the time."""

from __future__ import annotations

from typing import Any

# These cannot be undone: a context on which a test calls one, or with a service worker, is closed after the test.
PERMANENT = (
    "add_init_script",
    "close",
    "expose_binding",
    "expose_function",
    "grant_permissions",
    "on",
    "route_web_socket",
)
STORES = "local_storage,indexeddb,cache_storage,file_systems,service_workers"
MAX_KEPT = 4  # of each kind


class KeptContexts:
    """Contexts of one browser, by the options that they were made with."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._kept: dict[str, list[Any]] = {}
        self._kinds: dict[Any, str] = {}
        self._base_urls: dict[str, str] = {}

    def take(self, options: dict[str, Any]) -> Any:
        """A context with these options of `browser.new_context`, without pages, cookies and stored data."""
        kind = repr(sorted(options.items()))
        if kept := self._kept.get(kind):
            return kept.pop()
        context = self._browser.new_context(**options)
        if options.get("service_workers") == "block" and "storage_state" not in options:
            self._kinds[context], self._base_urls[kind] = kind, options.get("base_url", "")
            for name in PERMANENT:
                self._watch(context, context, name)
            self._watch(context, context.clock, "install")
        return context

    def _watch(self, context: Any, owner: Any, name: str) -> None:
        """Have the context closed after its test if this method of `owner` is called."""
        method = getattr(owner, name)

        def permanent(*arguments: Any, **options: Any) -> Any:
            self._kinds.pop(context, None)
            return method(*arguments, **options)

        setattr(owner, name, permanent)

    def give_back(self, context: Any) -> None:
        """Empty the context and keep it, or close it."""
        kind = self._kinds.get(context)
        kept = self._kept.setdefault(kind, []) if kind else []
        if kind is None or len(kept) == MAX_KEPT:
            self._kinds.pop(context, None)
            context.close()
            return
        # A page that the test has closed, or that shows another origin by now, may have stored data under `base_url`.
        visited = {self._base_urls[kind], *(page.url for page in context.pages)}
        origins = {f"http://{url.split('/', 3)[2]}" for url in visited if url.startswith("http://")}
        for page in context.pages:
            page.close()
        context.set_offline(False)
        context.unroute_all()
        context.clear_cookies()
        blank = context.new_page()
        session = context.new_cdp_session(blank)
        for origin in origins:
            session.send("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": STORES})
        blank.close()
        kept.append(context)

    def close(self) -> None:
        for contexts in self._kept.values():
            for context in contexts:
                context.close()
