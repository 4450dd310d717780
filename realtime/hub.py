"""The hub: one per process. It follows the log and delivers each event to the sockets that follow its topics.

Its parts are modules of their own: `follower` reads the log, `topic_index` maps topics to sockets, `catch_up` brings
topics that are behind up to date, `heartbeat` checks sockets by the clock, `revocation` applies revoked rights,
`presence` and `ephemeral` handle data that is not in the log, and `pubsub` connects to Valkey.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable

from events import freshness, types
from realtime import (
    admission,
    auth,
    catch_up,
    cluster,
    conf,
    delivery,
    encoding,
    ephemeral,
    follower,
    frames,
    grants,
    heartbeat,
    log_reader,
    presence,
    prometheus,
    publish,
    pubsub,
    revocation,
    sockets,
    topic_index,
    versions,
)

logger = logging.getLogger(__name__)


class Hub:
    """All sockets of a process. Everything runs on one event loop; only methods marked `async` ever suspend."""

    def __init__(self, bounds: conf.Limits | None = None, reader: log_reader.LogReader | None = None) -> None:
        self.limits = bounds or conf.limits()
        self.admission = admission.AdmissionControl(self.limits)
        self.log = reader or log_reader.LogReader()
        self.process = uuid.uuid4().hex[:12]
        self.sockets: dict[str, sockets.Socket] = {}
        self.sockets_by_person: dict[str, set[sockets.Socket]] = {}
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: set[asyncio.Task[None]] = set()  # subscriptions from a history that is not known yet
        self._index = topic_index.TopicIndex()
        self.follower = follower.Follower(
            self.limits,
            self.log,
            before=self._revoke,
            deliver=self._deliver,
            on_continue=self._continue_all,
            on_rewind=self._reset_all,
            relay_reachable=self._relay_reachable,
        )
        self.bus = pubsub.Bus(
            on_message=self.receive,
            on_notification=self.follower.receive_notification,
            on_subscribed=self._subscribed_to_bus,
        )
        self.presence = presence.PresenceTracker(
            self.process, self.limits, self.bus.send, self._show_presence, self._loop.time
        )
        self.catch_up = catch_up.CatchUp(
            self.limits,
            self.log,
            self.follower,
            self._index,
            presence_of=self.presence.snapshot,
            close=self.close_socket,
        )
        self.delivery = delivery.Delivery(self._index, self.catch_up.fall_behind)
        self.revoker = revocation.Revoker(
            self.limits,
            self.sockets_by_person,
            close=self._close_revoked,
            suspend=self.catch_up.fall_behind,
            reapply_grants=self._reapply_grants,
        )
        self.heartbeat = heartbeat.Heartbeat(
            self.limits, close=self.close_socket, recheck=self.revoker.recheck_without_suspending
        )
        self.ephemeral = ephemeral.EphemeralValues(self.limits, self._index.followers)
        self.reporter = cluster.Reporter(self.process, self.status, self.follower.lags)
        self._reconnect_at = float("-inf")

    @property
    def epoch(self) -> str:
        """The name of the log's history."""
        return self.follower.epoch

    @property
    def position(self) -> int:
        """The position up to which the log has been delivered to live topics."""
        return self.follower.position

    @property
    def ring(self) -> encoding.Ring:
        """The newest events, encoded."""
        return self.follower.ring

    # -- lifecycle ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the pool and start following the log; does not wait for PostgreSQL or Valkey."""
        await self.log.open()
        self._reconnect_at = self._loop.time()
        for work in (self.follower.follow, self.bus.run, self._run_ticks, self._watch_rows, self.reporter.run):
            self._tasks.append(self._loop.create_task(_restarted(work), name=f"realtime.{work.__name__}"))

    async def stop(self) -> None:
        """Stop at once; sockets that are still open receive `goodbye`."""
        self.draining = True
        closing = [self.close_socket(s, frames.GOING_AWAY, "server stops") for s in list(self.sockets.values())]
        await asyncio.gather(*(task for task in closing if task is not None), return_exceptions=True)
        running = [*self._tasks, *self._waiting]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._tasks.clear()
        freshness.LOCAL.disconnect()
        await self.log.close()
        await auth.disconnect()

    async def drain(self) -> None:
        """Refuse new sockets and close the open ones in small groups, so that they reconnect elsewhere."""
        self.draining = True
        leaving = list(self.sockets.values())
        share = max(1, int(len(leaving) * self.limits.drain_share))
        for start in range(0, len(leaving), share):
            group = leaving[start : start + share]
            closing = [self.close_socket(s, frames.GOING_AWAY, "server restarts") for s in group]
            await asyncio.gather(*(task for task in closing if task is not None), return_exceptions=True)
            if start + share < len(leaving):
                await asyncio.sleep(self.limits.drain_pause)

    async def wait_ready(self) -> None:
        """Wait until the hub knows the head of the log."""
        await self.follower.ready.wait()

    def status(self) -> cluster.HubStatus:
        """The state of this hub, for `/readyz` and the admin."""
        relay, ready = self.follower.relay_alive(), self.follower.ready.is_set() and not self.draining
        detail = "live"
        if self.draining:
            detail = "draining"
        elif not self.follower.store_up:
            detail = "the event store cannot be read"
        elif not self.bus.up:
            detail = "Valkey is away: polling the store"
        elif not relay:
            detail = "the relay is silent: polling the store"
        return cluster.HubStatus(
            ready=ready and (self.follower.store_up or relay),
            draining=self.draining,
            store=self.follower.store_up,
            valkey=self.bus.up,
            relay=relay,
            position=self.position,
            epoch=self.epoch,
            sockets=len(self.sockets),
            behind=sum(1 for socket in self.sockets.values() if socket.behind),
            people=len(self.sockets_by_person),
            ring=len(self.ring),
            detail=detail,
        )

    # -- messages from the bus ---------------------------------------------------------------------------------------

    def receive(self, message: publish.Message) -> None:
        """Handle one message from the bus."""
        match message:
            case publish.Batch():
                self.follower.receive_batch(message)
            case publish.Beacon():
                self.follower.receive_beacon(message)
            case publish.Value():
                self.ephemeral.put(message)
            case _:
                self.presence.receive(message)

    def _subscribed_to_bus(self) -> None:
        """Recover what was published before the (new) subscription: events from the store, presence by asking."""
        self.follower.request_fill()
        self.presence.request_snapshots()

    def _relay_reachable(self) -> bool:
        return self.bus.up

    # -- delivery ----------------------------------------------------------------------------------------------------

    def _deliver(self, event: encoding.EncodedEvent) -> None:
        self.delivery.deliver(event)

    def _show_presence(self, frame: frames.PresenceFrame) -> None:
        text = frames.encode(frame)
        for socket in list(self._index.followers(frame.topic)):
            socket.send_text(text)

    # -- sockets -----------------------------------------------------------------------------------------------------

    def join(self, socket: sockets.Socket, since: int) -> None:
        """Register a socket and send `welcome`. Its identity was read when the hub's position was `since`."""
        self.sockets[socket.id] = socket
        self.sockets_by_person.setdefault(socket.identity.person, set()).add(socket)
        spread = random.random() * self.limits.heartbeat_ms / 1000  # noqa: S311 - spreads the pings of all sockets
        socket.pinged_at = self._loop.time() - spread
        socket.send_frame(
            frames.Welcome(
                connection_id=socket.id,
                session=socket.identity.session or "",
                epoch=self.epoch,
                position=self.position,
                heartbeat_ms=self.limits.heartbeat_ms,
                user=frames.Person(socket.identity.person, socket.identity.name),
                limits=self.limits.for_clients(),
            )
        )
        self.revoker.apply_missed(socket, since)

    def leave(self, socket: sockets.Socket, code: int) -> None:
        """Forget a socket, however it ended."""
        if self.sockets.pop(socket.id, None) is None:
            return
        socket.mark_closed()
        self._index.unfollow(socket, set(socket.grants))
        of_person = self.sockets_by_person.get(socket.identity.person, set())
        of_person.discard(socket)
        if not of_person:
            self.sockets_by_person.pop(socket.identity.person, None)
        self.presence.leave(socket.id)
        prometheus.closed(socket.close_code or code)

    def close_socket(
        self, socket: sockets.Socket, code: int, reason: str, *, retry: bool = True
    ) -> asyncio.Task[None] | None:
        """Send `goodbye` and close. With `retry` the client reconnects after a random pause; otherwise it stops."""
        low, high = self.limits.retry_min_ms, min(self.limits.retry_max_ms, 5_000)
        retry_ms = random.randint(min(low, high), high) if retry else None  # noqa: S311 - jitter
        self._index.unfollow(socket, set(socket.grants))
        return socket.close_soon(code, reason, retry_ms)

    def subscribe(self, socket: sockets.Socket, wanted: frames.Subscribe) -> None:
        """Follow topics; a history that this process does not know may be newer, so it reads the store first."""
        since = wanted.since
        if since is None or since.epoch == self.epoch or since.epoch in self.follower.lineage:
            self._subscribe(socket, wanted)
        else:
            task = self._loop.create_task(self._subscribe_when_known(socket, wanted))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _subscribe_when_known(self, socket: sockets.Socket, wanted: frames.Subscribe) -> None:
        await self.follower.refresh()
        if socket.open:
            self._subscribe(socket, wanted)

    def _subscribe(self, socket: sockets.Socket, wanted: frames.Subscribe) -> None:
        """Follow topics, within one turn:

        1  separate the topics that do not exist or are not allowed
        2  a position of another history, which has events that this one lacks: reset
        3  the rest starts behind, at the client's position or at the hub's, and catches up (`catch_up`)

        The answer `subscribed` is sent once the names are live.
        """
        granted, denied = grants.decide_all(socket, wanted.topics, self.limits.topics)
        self._index.unfollow(socket, granted.keys() & socket.grants.keys())
        if wanted.since is not None and not self.follower.shares(wanted.since.epoch, wanted.since.position):
            self.catch_up.send_reset(socket, set(granted), "epoch")
            granted = {}
        self._index.follow(socket, granted)
        position = self.position if wanted.since is None else wanted.since.position
        self.catch_up.start(socket, sockets.Behind(set(granted), position, wanted.id, denied))

    def unsubscribe(self, socket: sockets.Socket, unwanted: frames.Unsubscribe) -> None:
        """Stop following topics and answer with those that were followed."""
        names = set(unwanted.topics) & socket.grants.keys()
        self._index.unfollow(socket, names)
        self.presence.leave(socket.id, names)
        socket.send_frame(frames.Unsubscribed(id=unwanted.id, topics=sorted(names)))

    def set_presence(self, socket: sockets.Socket, wanted: frames.SetPresence) -> str | None:
        """Record the presence of a socket on a topic it follows. Returns an error code when that is refused."""
        if wanted.topic not in socket.grants:
            return "not_subscribed"
        if not self.presence.set_state(socket.id, socket.identity.person, socket.identity.name, wanted):
            return "presence_limit"
        return None

    def _continue_all(self, shared: int, lost: frozenset[str] | None) -> None:
        """The history has a new name; every client up to `shared` continues in it, and those reset that are beyond.

        `lost` are the topics of the events beyond it that were delivered here, None where that may be any topic.
        """
        for socket in list(self.sockets.values()):
            seen = set(socket.grants) if lost is None or socket.announced > shared else lost & socket.grants.keys()
            self.catch_up.give_up_beyond(socket, shared, seen)
            self.catch_up.reset(socket, socket.live & seen, "epoch")
            socket.announced = 0
            self.heartbeat.announce(socket, self._loop.time(), self.position, self.epoch)

    def _reset_all(self, reason: str) -> None:
        for socket in list(self.sockets.values()):
            self.catch_up.reset(socket, set(socket.grants), reason)

    # -- rights ------------------------------------------------------------------------------------------------------

    def _revoke(self, event: types.RecordedEvent) -> None:
        self.revoker.revoke(event)

    def _close_revoked(self, socket: sockets.Socket, code: int, reason: str, retry: bool) -> None:
        self.close_socket(socket, code, reason, retry=retry)

    def _reapply_grants(self, socket: sockets.Socket) -> None:
        """Grant again the topics that the new identity may follow, with its view; reset the others."""
        lost = set()
        for name in socket.grants:
            grant = grants.decide(socket.identity, name)
            if isinstance(grant, frames.Denied):
                lost.add(name)
            else:
                socket.grants[name] = grant
        self.catch_up.reset(socket, lost, "forbidden")
        self.presence.leave(socket.id, lost)

    async def _watch_rows(self) -> None:
        """Check the rows behind the sockets at intervals, so that no socket outlives its session, login or key."""
        while True:
            await asyncio.sleep(self.limits.look_every)
            try:
                await self.check_rows()
            except log_reader.Unavailable:
                continue  # the follower logs it

    async def check_rows(self) -> None:
        """Suspend and recheck the sockets that have a row which changed or was deleted."""
        rows = {row for socket in self.sockets.values() for row in socket.identity.rows}
        changed = await versions.changed(rows, self.log)
        if not changed:
            return
        for socket in list(self.sockets.values()):
            # A running recheck brings new rows, which are checked in turn; starting it again might never end.
            if socket.open and socket.recheck_task is None and not changed.isdisjoint(socket.identity.rows):
                self.revoker.recheck(socket)

    # -- clock -------------------------------------------------------------------------------------------------------

    async def _run_ticks(self) -> None:
        while True:
            await asyncio.sleep(self.limits.tick)
            self.tick(self._loop.time())

    def tick(self, now: float) -> None:
        """Do all periodic work: presence, ephemeral values, a silent relay, heartbeats and gauges."""
        self.presence.tick()
        self.ephemeral.tick(now)
        self._check_relay(now)
        behind = 0
        for socket in list(self.sockets.values()):
            behind += bool(socket.behind)
            self.heartbeat.check(socket, now, self.position, self.epoch)
        prometheus.SOCKETS.set(len(self.sockets))
        prometheus.BEHIND.set(behind)
        prometheus.POSITION.set(self.position)
        prometheus.DEGRADED.set(not self.follower.relay_alive())

    def _check_relay(self, now: float) -> None:
        """While the relay is silent read the store, and reconnect to Valkey, whose connection may be half-open."""
        if self.follower.relay_alive():
            return
        self.follower.request_fill()
        if now - max(self.follower.relay_at, self._reconnect_at) >= self.limits.beacon_silence:
            self._reconnect_at = now + self.limits.beacon_silence  # give the next attempt more time
            self.bus.reconnect()


async def _restarted(work: Callable[[], Awaitable[None]]) -> None:
    """Run a task that must never end: log its errors and start it again."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s failed and starts again", getattr(work, "__qualname__", work))
        await asyncio.sleep(1.0)
