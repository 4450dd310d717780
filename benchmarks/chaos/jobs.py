"""Jobs that are requested while workers are replaced: each is finished, and takes effect once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

TABLE = "settings"
PAUSE = 0.5  # between two requests
FINISH_SECONDS = 60.0

Do = Callable[[Callable[[], Any]], Awaitable[Any]]


class Jobs:
    """Requests exports, rebuilds and checks of the log, one after the other; `do` runs database work."""

    def __init__(self, do: Do, users: Sequence[str]) -> None:
        self._do, self._users = do, list(users)
        self.exports: list[uuid.UUID] = []
        self.requests = 0

    async def run(self) -> None:
        """Request jobs until cancelled."""
        while True:
            await self._do(self._request)
            await asyncio.sleep(PAUSE)

    def _request(self) -> None:
        from backoffice import models
        from backoffice.sections.privacy import export_jobs
        from events import errors, jobs

        person = models.User.objects.get(pk=self._users[self.requests % len(self._users)])
        self.exports.append(export_jobs.request(person).pk)
        if jobs.last_verification()[1] is None:
            jobs.request_verification()
        if self.requests % 4 == 0:
            with contextlib.suppress(errors.RebuildRefused):  # one is running
                jobs.request_rebuild(TABLE)
        self.requests += 1

    async def check(self) -> list[str]:
        """Wait until everything is finished; returns what is not, or was done twice."""
        wrong: list[str] = await self._do(self._errors)
        for _ in range(int(FINISH_SECONDS / PAUSE)):
            if not wrong:
                break
            await asyncio.sleep(PAUSE)
            wrong = await self._do(self._errors)
        return wrong

    def _errors(self) -> list[str]:
        from backoffice.sections.privacy.models import PersonExport
        from events import jobs, store

        made = {row.pk: row for row in PersonExport.objects.filter(pk__in=self.exports)}
        wrong = [f"export {key} is lost" for key in set(self.exports) - made.keys()]
        wrong += [f"export {row.pk} is not finished" for row in made.values() if row.finished_at is None]
        types = [event.type for event in store.read_stream(jobs.VERIFICATION)]
        if types != ["verification.requested", "verification.finished"] * (len(types) // 2):
            wrong.append(f"checks of the log: {types[-6:]}")
        rebuilt = jobs.progress_of(TABLE)
        if rebuilt.phase != "done" or rebuilt.error:
            wrong.append(f"rebuild of {TABLE}: {rebuilt.phase} {rebuilt.error}")
        return wrong
