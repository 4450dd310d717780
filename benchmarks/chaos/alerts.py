"""Alerts in the chaos test: rules about what the faults break, a receiver of webhooks that fails now and then, a check.

raised      each fault that a rule is about raises its alert, and its end resolves it
once        events of an alert alternate: raised, resolved; episodes are numbered without a gap
no recovery an alert whose value never recovers is raised once, through every fault, and resolved by its rule's end
decided     every event that people are notified of has its delivery, decided with it
delivered   every delivery that is needed arrived at least once, signed, under one id, and nothing else arrived
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import psycopg

from devtools import webhooks
from devtools.webhooks import Received

RAISED_SECONDS: Final = 25.0  # two slots, and a sampler that was killed
SETTLED_SECONDS: Final = 90.0  # longer than the lease of a sender that was killed in a request
REFUSED: Final = 0.3  # the share of first attempts that the receiver refuses, or ends without an answer

ALWAYS: Final = "chaos_always"
VALKEY: Final = "chaos_valkey"
RELAY: Final = "chaos_relay"
TRANSACTION: Final = "chaos_transaction"
# id -> metric, target, comparison, level
RULES: Final[dict[str, tuple[str, str, str, float]]] = {
    ALWAYS: ("db.connections", "", "above", 0.0),
    VALKEY: ("valkey.reachable", "", "below", 0.5),
    RELAY: ("subscription.lag", "relay", "above", 2.0),
    TRANSACTION: ("db.oldest_transaction", "", "above", 4.0),
}


def key_of(rule: str) -> str:
    target = RULES[rule][1]
    return f"{rule}:{target}" if target else rule


OURS: Final = frozenset(map(key_of, RULES))


@dataclasses.dataclass
class Arrived:
    """A request, which the receiver accepted or refused."""

    id: str
    body: dict[str, Any]
    is_signed: bool
    accepted: bool


class Receiver:
    """Receives the webhooks. It refuses some first attempts, and ends some without an answer.

    Second ones are accepted, because the pauses after more failures would last longer than the test.
    """

    def __init__(self, seed: int) -> None:
        self.arrived: list[Arrived] = []
        self._rng = random.Random(seed)
        self.server = webhooks.Receiver(self._answer)
        self.server.start()

    def accepted(self) -> Counter[str]:
        """The number of accepted requests by message id."""
        return Counter(one.id for one in self.arrived if one.accepted)

    def _answer(self, received: Received) -> int | None:
        refused = not received.earlier and self._rng.random() < REFUSED
        status = self._rng.choice([503, 503, None]) if refused else 200
        self.arrived.append(Arrived(received.id, received.body, received.is_signed, status == 200))
        return status


class Alerts:
    """The rules, their receiver, and what the faults wait for. `work` runs database work in a thread."""

    def __init__(self, work: Callable[[Callable[[], Any]], Any], database_url: str, seed: int) -> None:
        self._work, self._url = work, database_url
        self.receiver = Receiver(seed)
        self._raised = {TRANSACTION}  # rules whose fault happened; a transaction is left open in every run

    async def create(self) -> None:
        await self._work(lambda: create_rules(self.receiver))

    async def until_raised(self, rule: str) -> None:
        """Wait until the alert of a rule has been raised, the first time that its fault happens."""
        if rule in self._raised:
            return
        self._raised.add(rule)
        deadline = time.monotonic() + RAISED_SECONDS
        while time.monotonic() < deadline and not await self._work(lambda: episodes(rule)):
            await asyncio.sleep(0.5)

    async def leave_transaction_open(self) -> None:
        """Keep a transaction open until its alert was raised, whatever the faults do to its session meanwhile."""
        deadline = time.monotonic() + 3 * RAISED_SECONDS
        while time.monotonic() < deadline and not await self._work(lambda: episodes(TRANSACTION)):
            with contextlib.suppress(psycopg.Error):
                async with await psycopg.AsyncConnection.connect(self._url) as connection:
                    await connection.execute("select 1")
                    while not await self._work(lambda: episodes(TRANSACTION)):
                        await asyncio.sleep(0.5)
                        await connection.execute("select 1")
            await asyncio.sleep(0.2)

    async def settle(self) -> float:
        """Disable the rule that always fires, and wait until all alerts are resolved and all messages are sent.

        Returns the seconds that it took.
        """
        await self._work(disable_always)
        started = time.monotonic()
        while time.monotonic() - started < SETTLED_SECONDS and not await self._work(is_settled):
            await asyncio.sleep(0.5)
        return time.monotonic() - started

    async def check(self) -> list[str]:
        found: list[str] = await self._work(
            lambda: [f"alerts: {wrong}" for wrong in errors_of(self.receiver, self._raised)]
        )
        return found

    def close(self) -> None:
        self.receiver.server.close()


# -- in the database --------------------------------------------------------------------------------------------------


def create_rules(receiver: Receiver) -> None:
    from events import commands
    from events.types import Command, new_id
    from metrics.monitoring.alerting.rules import CreateRule
    from metrics.monitoring.notify import changes

    written = changes.write(None, {"name": "chaos", "kind": "webhook", "url": receiver.server.url})
    assert written.signing_key is not None
    receiver.server.key = written.signing_key
    for key, (metric, target, comparison, level) in RULES.items():
        given: dict[str, Any] = {"title": key, "metric": metric, "target": target, "comparison": comparison}
        data = CreateRule(**given, critical=level, for_seconds=0, keep_seconds=0)
        commands.dispatch(Command(id=new_id(), key=key, data=data))


def disable_always() -> None:
    from events import commands
    from events.types import Command, new_id
    from metrics.monitoring.alerting.rules import UpdateRule

    commands.dispatch(Command(id=new_id(), key=ALWAYS, data=UpdateRule(enabled=False)))


def episodes(rule: str) -> int:
    from metrics.monitoring.alerting.models import Episode

    return Episode.objects.filter(alert=key_of(rule)).count()


def is_settled() -> bool:
    from metrics.monitoring.alerting.models import Alert
    from metrics.monitoring.notify.models import Delivery

    fires = Alert.objects.filter(pk__in=OURS).exclude(state="quiet").exists()
    return not fires and not Delivery.objects.filter(state="waiting").exists()


def errors_of(receiver: Receiver, broken: Iterable[str]) -> Iterator[str]:
    """The errors in the events of alerts, in their deliveries, and in the requests to the receiver.

    broken  the rules whose fault happened
    """
    by_alert = alert_events()
    for key, events in by_alert.items():
        yield from _errors_of_alert(key, events)
    for rule in sorted(broken):
        if not by_alert.get(key_of(rule)):
            yield f"{rule} was never raised"
    ends = [event.data["why"] for event in by_alert.get(ALWAYS, ()) if event.type == "alert.resolved"]
    if ends != ["rule_disabled"]:
        yield f"{ALWAYS} ended by {ends}, but its value never recovers"
    raised = [event for events in by_alert.values() for event in events if event.type == "alert.raised"]
    yield from _errors_of_deliveries(receiver, raised)


def alert_events() -> dict[str, list[Any]]:
    from events import head, store

    found: dict[str, list[Any]] = {}
    position, upto = 0, head.safe()
    while page := store.read_all(position, 5000, upto=upto):
        position = page[-1].position
        for event in page:
            if event.category == "alert":
                found.setdefault(event.key, []).append(event)
    return found


def _errors_of_alert(key: str, events: Sequence[Any]) -> Iterator[str]:
    turns = [event for event in events if event.type in ("alert.raised", "alert.resolved")]
    for number, event in enumerate(turns):
        if event.type != ("alert.raised", "alert.resolved")[number % 2] or event.data["episode"] != number // 2 + 1:
            yield f"{key}: {[(one.type, one.data['episode']) for one in turns]} do not alternate"
            return
    slots = [event.data["slot"] for event in events if event.data.get("slot") is not None]
    if any(later <= earlier for earlier, later in itertools.pairwise(slots)):
        yield f"{key}: two events of one slot, or an older one: {slots}"
    if key in OURS and len(turns) % 2:
        yield f"{key} is not resolved"


def _errors_of_deliveries(receiver: Receiver, raised: Sequence[Any]) -> Iterator[str]:
    from metrics.monitoring.notify.models import Channel, Delivery

    created = Channel.objects.get(name="chaos").created_at
    deliveries = list(Delivery.objects.all())
    decided = {(one.alert, one.cause) for one in deliveries}
    for event in raised:
        if event.recorded_at > created and (event.key, str(event.version)) not in decided:
            yield f"{event.key}: nothing was decided for its episode {event.data['episode']}"
    accepted, known = receiver.accepted(), {str(one.message_id): one for one in deliveries}
    for one in deliveries:
        if one.state == "delivered" and str(one.message_id) not in accepted:
            yield f"{one.alert} {one.kind}: delivered, but it never arrived"
        if one.state in ("waiting", "failed"):
            yield f"{one.alert} {one.kind} is {one.state}: {one.answer}"
        if one.state == "dropped" and one.why not in ("superseded", "never_notified"):
            yield f"{one.alert} {one.kind} was dropped: {one.why}"
    for arrived in receiver.arrived:
        meant, data = known.get(arrived.id), arrived.body["data"]
        if not arrived.is_signed:
            yield f"{arrived.id} was not signed"
        if meant is None or (data["alert"], data["episode"]) != (meant.alert, meant.episode):
            yield f"{arrived.id} is no delivery: {arrived.body}"
    yield from _errors_of_episodes(deliveries)


def _errors_of_episodes(deliveries: Sequence[Any]) -> Iterator[str]:
    """A message that arrived is followed by the one that says that the alert was resolved."""
    ours = [one for one in deliveries if one.alert in OURS]
    for name, together in itertools.groupby(sorted(ours, key=_episode), key=_episode):
        states = {(one.kind, one.state) for one in together}
        if ("firing", "delivered") in states and ("resolved", "delivered") not in states:
            yield f"{name}: notified, but not of its end: {sorted(states)}"


def _episode(delivery: Any) -> tuple[str, int]:
    return delivery.alert, delivery.episode
