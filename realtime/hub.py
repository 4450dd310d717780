"""One hub per process: the sockets, what each follows, and how far each of its topics is complete.

The hub follows the log (`follower`) and hands each event to the sockets that follow its topics. A topic name of a
socket is either live (in the index, complete up to `position`) or behind (complete up to a position of its own).
`_advance` moves it from behind to live in the same turn in which nothing is left in between. The proof that no event
is lost or sent twice is in docs/realtime.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from realtime import (
    admission,
    auth,
    cluster,
    conf,
    encoding,
    ephemeral,
    follower,
    frames,
    log_reader,
    presence,
    prometheus,
    publish,
    revocation,
    sockets,
    topics,
    versions,
)
from realtime.pubsub import Bus

logger = logging.getLogger(__name__)


class Hub:
    """Everything here runs on one event loop; only what is marked `async` ever waits."""

    def __init__(self, bounds: conf.Limits | None = None, reader: log_reader.Log | None = None) -> None:
        self.limits = bounds or conf.limits()
        self.door = admission.Doorkeeper(self.limits)
        self.log = reader or log_reader.Log()
        self.process = uuid.uuid4().hex[:12]
        self.sockets: dict[str, sockets.Socket] = {}
        self.people: dict[str, set[sockets.Socket]] = {}
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._index: dict[str, dict[sockets.Socket, None]] = {}
        self._members: dict[str, dict[sockets.Socket, None]] = {}
        self.guard = revocation.Guard(self.limits, self.people, end=self._end, hold=self._fall_behind, trim=self._trim)
        self.follower = follower.Follower(
            self.limits,
            self.log,
            before=self.guard.revoke,
            deliver=self._deliver,
            rewound=self._reset_all,
            line_up=self._line_up,
        )
        self.bus: Bus = Bus(self.receive, self.follower.hear_bell, self._joined)
        self.board = presence.Board(self.process, self.limits, self.bus.send, self._show_presence, self._loop.time)
        self.values = ephemeral.Values(self.limits, self._members_of)
        self.reporter = cluster.Reporter(self.process, self.status, self.follower.lags)
        self._reconnect_at = float("-inf")
        self._readers = asyncio.Semaphore(self.limits.catch_up_readers)
        self._tasks: list[asyncio.Task[None]] = []

    def _line_up(self) -> bool:
        return self.bus.up

    @property
    def epoch(self) -> str:
        return self.follower.epoch

    @property
    def position(self) -> int:
        """Up to where the log has been handed to live topics."""
        return self.follower.position

    @property
    def ring(self) -> encoding.Ring:
        return self.follower.ring

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the pool and begin to follow the log; does not wait for either service."""
        await self.log.open()
        self._reconnect_at = self._loop.time()
        for work in (self.follower.follow, self.bus.run, self._pulse, self._watch, self.reporter.run):
            self._tasks.append(self._loop.create_task(_supervised(work), name=f"realtime.{work.__name__}"))

    async def stop(self) -> None:
        """Stop at once; sockets still open are told that the server goes away."""
        self.draining = True
        farewells = [self.dismiss(s, frames.GOING_AWAY, "server stops") for s in list(self.sockets.values())]
        await asyncio.gather(*(task for task in farewells if task is not None), return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self.log.close()
        await auth.disconnect()

    async def drain(self) -> None:
        """Before a stop: no new sockets, and those we have sent away in small groups to come back elsewhere."""
        self.draining = True
        leaving = list(self.sockets.values())
        share = max(1, int(len(leaving) * self.limits.drain_share))
        for start in range(0, len(leaving), share):
            group = [self.dismiss(s, frames.GOING_AWAY, "server restarts") for s in leaving[start : start + share]]
            await asyncio.gather(*(task for task in group if task is not None), return_exceptions=True)
            if start + share < len(leaving):
                await asyncio.sleep(self.limits.drain_pause)

    async def wait_ready(self) -> None:
        """Until the hub knows where the log stands."""
        await self.follower.ready.wait()

    def status(self) -> cluster.Status:
        relay, ready = self.follower.relay_heard(), self.follower.ready.is_set() and not self.draining
        detail = "live"
        if self.draining:
            detail = "draining"
        elif not self.follower.store_up:
            detail = "the event store cannot be read"
        elif not self.bus.up:
            detail = "Valkey is away: polling the store"
        elif not relay:
            detail = "the relay is silent: polling the store"
        return cluster.Status(
            ready=ready and (self.follower.store_up or relay),
            draining=self.draining,
            store=self.follower.store_up,
            valkey=self.bus.up,
            relay=relay,
            position=self.position,
            epoch=self.epoch,
            sockets=len(self.sockets),
            behind=sum(1 for socket in self.sockets.values() if socket.behind),
            people=len(self.people),
            ring=len(self.ring),
            detail=detail,
        )

    # -- hearing -----------------------------------------------------------------------------------------------------

    def receive(self, message: publish.Message) -> None:
        """Take one message off the bus."""
        match message:
            case publish.Batch():
                self.follower.hear_batch(message)
            case publish.Beacon():
                self.follower.hear_beacon(message)
            case publish.Value():
                self.values.put(message)
            case _:
                self.board.hear(message)

    def _joined(self) -> None:
        """Subscribed (again): what was said meanwhile is in the store, who is present must be asked for."""
        self.follower.look()
        self.board.ask()

    # -- delivering --------------------------------------------------------------------------------------------------

    def _deliver(self, going: encoding.Fan) -> None:
        """To every socket that follows one of its topics live, each once."""
        followed = [name for name, _topic in going.names if name in self._index]
        if not followed:
            return
        if len(followed) == 1:
            self._deliver_one(going, followed[0])
        else:
            matched: dict[sockets.Socket, tuple[str, ...]] = {}
            for name in followed:
                for socket in self._index[name]:
                    matched[socket] = (*matched.get(socket, ()), name)
            prometheus.DELIVERIES.inc(
                len(matched)
            )  # before: a client may have its frame, and ask, before the last is out
            for socket, names in matched.items():
                self._hand_over(going, names, socket)
        going.forget_packets()

    def _deliver_one(self, going: encoding.Fan, name: str) -> None:
        """The common case, and the innermost loop of it all: neighbours mostly get the very same packet."""
        names, targets = (name,), list(self._index[name])
        prometheus.DELIVERIES.inc(len(targets))
        sent, view, packet = -1, "", None
        for socket in targets:
            if socket.sent != sent or socket.grants[name].projection_key != view:
                sent, view = socket.sent, socket.grants[name].projection_key
                packet = going.packet(names, socket)
            if packet is not None and not socket.push(packet):
                self._fall_behind(socket)

    def _hand_over(self, going: encoding.Fan, names: tuple[str, ...], socket: sockets.Socket) -> None:
        packet = going.packet(names, socket)
        if packet is not None and not socket.push(packet):
            self._fall_behind(socket)

    # -- sockets -----------------------------------------------------------------------------------------------------

    def join(self, socket: sockets.Socket, since: int) -> None:
        """Register a socket whose identity was read when the hub stood at `since`, and welcome it."""
        self.sockets[socket.id] = socket
        self.people.setdefault(socket.identity.person, set()).add(socket)
        socket.pinged_at = self._loop.time() - random.random() * self.limits.heartbeat_ms / 1000  # noqa: S311 - spread
        socket.tell(
            frames.Welcome(
                connection_id=socket.id,
                session=socket.identity.session or "",
                epoch=self.epoch,
                position=self.position,
                heartbeat_ms=self.limits.heartbeat_ms,
                user=frames.Person(socket.identity.person, socket.identity.name),
                limits=_client_limits(self.limits),
            )
        )
        self.guard.catch_up(socket, since)

    def leave(self, socket: sockets.Socket, code: int) -> None:
        """Forget a socket, however it ended."""
        if self.sockets.pop(socket.id, None) is None:
            return
        socket.lost()
        self._unfollow(socket, set(socket.grants))
        mine = self.people.get(socket.identity.person, set())
        mine.discard(socket)
        if not mine:
            self.people.pop(socket.identity.person, None)
        self.board.leave(socket.id)
        prometheus.closed(socket.close_code or code)

    def dismiss(
        self, socket: sockets.Socket, code: int, reason: str, *, retry: bool = True
    ) -> asyncio.Task[None] | None:
        """Say goodbye and close; come back after a random moment unless coming back is pointless."""
        low, high = self.limits.retry_min_ms, min(self.limits.retry_max_ms, 5_000)
        retry_ms = random.randint(min(low, high), high) if retry else None  # noqa: S311 - jitter
        self._unfollow(socket, set(socket.grants))
        return socket.close_soon(code, reason, retry_ms)

    def subscribe(self, socket: sockets.Socket, wanted: frames.Subscribe) -> None:
        """Follow topics, one turn:

        1  sort out what does not exist or is not allowed
        2  a position of another history: reset
        3  what is left starts behind, at the client's position or at ours, and catches up (`_advance`)

        The answer `subscribed` is sent by `_advance` once the names are live.
        """
        granted, denied = self._grants(socket, wanted.topics)
        self._unfollow(socket, granted.keys() & socket.grants.keys())
        if wanted.since is not None and wanted.since.epoch != self.epoch:
            self._send_reset(socket, set(granted), "epoch")
            granted = {}
        socket.grants.update(granted)
        for name in granted:
            self._members.setdefault(name, {})[socket] = None
        position = self.position if wanted.since is None else wanted.since.position
        self._start_catching_up(socket, sockets.Behind(set(granted), position, wanted.id, denied))

    def unsubscribe(self, socket: sockets.Socket, unwanted: frames.Unsubscribe) -> None:
        names = set(unwanted.topics) & socket.grants.keys()
        self._unfollow(socket, names)
        self.board.leave(socket.id, names)
        socket.tell(frames.Unsubscribed(id=unwanted.id, topics=sorted(names)))

    def set_presence(self, socket: sockets.Socket, wanted: frames.SetPresence) -> str | None:
        """Note what a socket is doing on a topic it follows. Returns the code of the refusal, if there is one."""
        if wanted.topic not in socket.grants:
            return "not_subscribed"
        if not self.board.enter(socket.id, socket.identity.person, socket.identity.name, wanted):
            return "presence_limit"
        return None

    def _grants(
        self, socket: sockets.Socket, names: Iterable[str]
    ) -> tuple[dict[str, sockets.Grant], list[frames.Denied]]:
        granted: dict[str, sockets.Grant] = {}
        denied: list[frames.Denied] = []
        followed = len(socket.grants)
        for name in dict.fromkeys(names):
            grant = _grant(socket.identity, name)
            if isinstance(grant, frames.Denied):
                denied.append(grant)
            elif name not in socket.grants and followed >= self.limits.topics:
                denied.append(frames.Denied(name, "limit"))
            else:
                followed += name not in socket.grants
                granted[name] = grant
        return granted, denied

    def _unfollow(self, socket: sockets.Socket, names: Iterable[str]) -> None:
        for name in list(names):
            socket.grants.pop(name, None)
            socket.live.discard(name)
            _drop(self._index, name, socket)
            _drop(self._members, name, socket)
            for behind in socket.behind:
                behind.names.discard(name)

    def _members_of(self, topic: str) -> Iterable[sockets.Socket]:
        return self._members.get(topic, ())

    def _show_presence(self, frame: frames.PresenceFrame) -> None:
        text = frames.encode(frame)
        for socket in list(self._members_of(frame.topic)):
            socket.tell_text(text)

    # -- catching up -------------------------------------------------------------------------------------------------

    def _fall_behind(self, socket: sockets.Socket) -> None:
        """Take its live names out of the index; from here on they are complete up to `position` only."""
        if not socket.live:
            return
        prometheus.CREDIT_WAITS.inc()
        names, socket.live = socket.live, set()
        for name in names:
            _drop(self._index, name, socket)
        self._start_catching_up(socket, sockets.Behind(names, self.position))

    def _start_catching_up(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        """Append to what the socket has to catch up with; the common case is over before this returns."""
        socket.behind.append(behind)
        if len(socket.behind) == 1 and socket.room and self.ring.floor <= behind.position <= self.position:
            self._advance_in_ring(socket, behind)
        if socket.behind and socket.worker is None:
            socket.worker = self._loop.create_task(self._catch_up(socket))

    async def _catch_up(self, socket: sockets.Socket) -> None:
        try:
            while socket.behind:
                await socket.wait_for_room()
                await self._advance(socket, socket.behind[0])
        except sockets.Gone:
            pass
        except Exception:
            logger.exception("catching up failed")
            self.dismiss(socket, frames.INTERNAL, "internal error")
        finally:
            socket.worker = None

    async def _advance(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        """One step of catching up:

        1  ahead of this hub (it was fed by a faster one): wait until the hub is there; never drawn: reset
        2  older than the ring: one page of the store; reset where the hub is too far ahead, or where the socket has
           read too much from the store without reaching the ring: it would trickle for as long as others write
        3  within the ring: to the end of it, and live in the same turn
        """
        if not behind.names:  # unsubscribed, lost or reset meanwhile
            self._advance_in_ring(socket, behind)
        elif behind.position > self.position:
            if not await self.follower.reach(behind.position) and behind in socket.behind:
                self._give_up(socket, behind, "rewound")
        elif behind.position < self.ring.floor:
            if max(self.position - behind.position, behind.scanned) > self.limits.catch_up_events:
                self._give_up(socket, behind, "too_old")
            else:
                await self._advance_in_store(socket, behind)
        else:
            self._advance_in_ring(socket, behind)

    async def _advance_in_store(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        epoch, start, upto = self.epoch, behind.position, self.position
        async with self._readers:
            try:
                page = await self.log.read(start, upto, self.limits.page)
            except log_reader.Unavailable:
                await self.follower.change()
                return
            except log_reader.Archived:
                self._give_up(socket, behind, "too_old")
                return
        if behind not in socket.behind or epoch != self.epoch or not socket.room:
            return  # what we read is no longer asked for, or not now
        for event in page:
            behind.scanned += 1  # also where credit ends inside the page and the rest is read again
            if not self._replay(socket, behind, encoding.Fan(event)):
                return
        behind.position = page[-1].position if len(page) == self.limits.page else upto

    def _advance_in_ring(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        if behind.names:
            for going in self.ring.after(behind.position):
                if not self._replay(socket, behind, going):
                    return
        socket.behind.remove(behind)
        for name in behind.names:
            socket.live.add(name)
            self._index.setdefault(name, {})[socket] = None
        self._answer(socket, behind)

    def _replay(self, socket: sockets.Socket, behind: sockets.Behind, going: encoding.Fan) -> bool:
        """Send one event to names that are behind; False when the socket has no more room."""
        behind.position = going.position
        names = tuple(name for name, _topic in going.names if name in behind.names)
        packet = going.packet(names, socket, replayed=True) if names else None
        if packet is None or socket.push(packet):
            return True
        self._fall_behind(socket)  # its live names have no more room either
        return False

    def _answer(self, socket: sockets.Socket, behind: sockets.Behind) -> None:
        if behind.request is None:
            return
        names = sorted(behind.names)
        socket.tell(frames.Subscribed(id=behind.request, topics=names, denied=behind.denied, position=self.position))
        for name in names:
            present = self.board.full(name)
            if present.full:
                socket.tell(present)

    def _give_up(self, socket: sockets.Socket, behind: sockets.Behind, reason: str) -> None:
        """Too far: the client reloads these topics. Its request is still answered."""
        socket.behind.remove(behind)
        names = set(behind.names)
        self._reset(socket, names, reason)
        behind.names.clear()
        self._answer(socket, behind)

    def _reset(self, socket: sockets.Socket, names: set[str], reason: str) -> None:
        self._unfollow(socket, names)
        self._send_reset(socket, names, reason)

    def _reset_all(self, reason: str) -> None:
        for socket in list(self.sockets.values()):
            self._reset(socket, set(socket.grants), reason)

    def _send_reset(self, socket: sockets.Socket, names: set[str], reason: Any) -> None:
        if names:
            prometheus.RESETS.labels(reason).inc()
            socket.tell(frames.Reset(topics=sorted(names), reason=reason, epoch=self.epoch, position=self.position))

    # -- rights ------------------------------------------------------------------------------------------------------

    def _end(self, socket: sockets.Socket, code: int, reason: str, retry: bool) -> None:
        self.dismiss(socket, code, reason, retry=retry)

    def _trim(self, socket: sockets.Socket) -> None:
        """Grant again what is still allowed, with the view that now goes with it; the rest is lost."""
        lost = set()
        for name in socket.grants:
            grant = _grant(socket.identity, name)
            if isinstance(grant, frames.Denied):
                lost.add(name)
            else:
                socket.grants[name] = grant
        self._reset(socket, lost, "forbidden")
        self.board.leave(socket.id, lost)

    async def _watch(self) -> None:
        """Look again and again at the rows behind the sockets, so that none outlives its session, login or key."""
        while True:
            await asyncio.sleep(self.limits.look_every)
            try:
                await self.look_at_rows()
            except log_reader.Unavailable:
                continue  # the follower says so

    async def look_at_rows(self) -> None:
        """Check those sockets again, and show them nothing meanwhile, of which a row has changed or is gone."""
        rows = {row for socket in self.sockets.values() for row in socket.identity.rows}
        changed = await versions.changed(rows, self.log)
        if not changed:
            return
        for socket in list(self.sockets.values()):
            # a check under way brings other rows, and those are looked at in turn: it must not begin anew for ever
            if socket.open and socket.rechecking is None and not changed.isdisjoint(socket.identity.rows):
                self.guard.recheck(socket)

    # -- the pulse ---------------------------------------------------------------------------------------------------

    async def _pulse(self) -> None:
        """Everything that goes by the clock."""
        while True:
            await asyncio.sleep(self.limits.tick)
            self.pulse(self._loop.time())

    def pulse(self, now: float) -> None:
        """One beat: presence, values, silence, pings, readers that do not read."""
        self.board.tick()
        self.values.tick(now)
        if not self.follower.relay_heard():
            self.follower.look()
            if now - max(self.follower.relay_at, self._reconnect_at) >= self.limits.beacon_silence:
                self._reconnect_at = now + self.limits.beacon_silence  # leave the next attempt more time
                self.bus.reconnect()
        behind = 0
        for socket in list(self.sockets.values()):
            behind += bool(socket.behind)
            self._care_for(socket, now)
        prometheus.SOCKETS.set(len(self.sockets))
        prometheus.BEHIND.set(behind)
        prometheus.POSITION.set(self.position)
        prometheus.DEGRADED.set(not self.follower.relay_heard())

    def _care_for(self, socket: sockets.Socket, now: float) -> None:
        if not socket.open:
            return
        if socket.stalled_since is not None and now - socket.stalled_since > self.limits.slow_after:
            self.dismiss(socket, frames.SLOW, "slow reader")
        elif now - socket.pinged_at >= self.limits.heartbeat_ms / 1000:
            self._ping(socket, now)
        if socket.open and socket.rechecking is None and now >= socket.check_at:
            socket.check_later()
            self.guard.recheck(socket, hold=False)

    def _ping(self, socket: sockets.Socket, now: float) -> None:
        if socket.pong_number < socket.ping_number:
            self.dismiss(socket, frames.SLOW, "no answer to ping")
            return
        socket.pinged_at = now
        socket.ping_number += 1
        complete = min((behind.position for behind in socket.behind), default=self.position)
        socket.tell(frames.Ping(n=socket.ping_number, position=min(complete, self.position)))


def _grant(identity: auth.Identity, name: str) -> sockets.Grant | frames.Denied:
    found = topics.find(name)
    if found is None:
        return frames.Denied(name, "unknown")
    topic, key = found
    if not topic.allows(identity.principal, key):
        return frames.Denied(name, "forbidden")
    return sockets.Grant(topic, topic.projection_key(identity.principal))


def _drop(index: dict[str, dict[sockets.Socket, None]], name: str, socket: sockets.Socket) -> None:
    here = index.get(name)
    if here is not None:
        here.pop(socket, None)
        if not here:
            del index[name]


def _client_limits(limits: conf.Limits) -> frames.ClientLimits:
    return frames.ClientLimits(
        frame_bytes=limits.frame_bytes,
        frames_per_second=limits.frames_per_second,
        topics=limits.topics,
        credit=frames.Credit(limits.window_frames, limits.window_bytes, limits.ack_frames, limits.ack_bytes),
        retry_min_ms=limits.retry_min_ms,
        retry_max_ms=limits.retry_max_ms,
    )


async def _supervised(work: Callable[[], Awaitable[None]]) -> None:
    """A task that must never end: whatever it trips over is logged, and it starts again from a sound state."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s tripped and starts again", getattr(work, "__qualname__", work))
        await asyncio.sleep(1.0)


# -- one hub per process --------------------------------------------------------------------------------------------

# By event loop, of which a server process has one; tests run several servers in a process.
_hubs: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]] = weakref.WeakKeyDictionary()


async def current() -> Hub:
    """This process's hub, started on the running loop when the first socket asks (Daphne has no lifespan)."""
    await start()
    return _hubs[asyncio.get_running_loop()]


async def start() -> None:
    """Start the hub on the running loop, for servers with a lifespan; `current` does it otherwise."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        hub = _hubs[loop] = Hub()
        await hub.start()


async def stop() -> None:
    """Stop this process's hub, if it ever started."""
    hub = _hubs.pop(asyncio.get_running_loop(), None)
    if hub is not None:
        await hub.stop()


async def drain() -> None:
    """Send this process's sockets away in small groups, before a stop."""
    hub = _hubs.get(asyncio.get_running_loop())
    if hub is not None:
        await hub.drain()


def status() -> cluster.Status | None:
    """How this process's hub is doing, from any thread; None when it has not started."""
    return next((hub.status() for hub in list(_hubs.values())), None)


def report() -> cluster.Report | None:
    """What this process last said about itself, from any thread; None when it has no hub."""
    return next((hub.reporter.latest for hub in list(_hubs.values())), None)
