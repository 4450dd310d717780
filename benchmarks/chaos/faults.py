"""The table of faults: each breaks something for about `seconds` and mends it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

import psycopg
import redis.asyncio as aioredis

from benchmarks.chaos.clients import Cast
from benchmarks.chaos.stack import Stage

Fault = Callable[[Stage, Cast, random.Random, float], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def fault(name: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return add


@fault("web killed")
async def kill_web(stage: Stage, _cast: Cast, rng: random.Random, seconds: float) -> None:
    name = rng.choice(sorted(stage.ports))
    await stage.do(stage.kill, name)
    await asyncio.sleep(seconds)
    await stage.do(stage.spawn, name)


@fault("web deployed")
async def deploy_web(stage: Stage, _cast: Cast, rng: random.Random, _seconds: float) -> None:
    name = rng.choice(sorted(stage.ports))
    stage.processes[name].terminate()
    await stage.do(stage.processes[name].wait)
    await stage.do(stage.spawn, name)


@fault("one relay killed")
async def kill_relay(stage: Stage, _cast: Cast, rng: random.Random, seconds: float) -> None:
    name = rng.choice(["relay1", "relay2"])
    await stage.do(stage.kill, name)
    await asyncio.sleep(seconds)
    await stage.do(stage.spawn, name)


@fault("both relays killed")
async def kill_relays(stage: Stage, _cast: Cast, _rng: random.Random, seconds: float) -> None:
    for name in ("relay1", "relay2"):
        await stage.do(stage.kill, name)
    await asyncio.sleep(seconds)
    for name in ("relay1", "relay2"):
        await stage.do(stage.spawn, name)


@fault("Valkey killed")
async def kill_valkey(stage: Stage, _cast: Cast, _rng: random.Random, seconds: float) -> None:
    await stage.do(stage.valkey.kill)
    await asyncio.sleep(seconds)
    await stage.do(stage.valkey.start)


@fault("Valkey paused")
async def pause_valkey(stage: Stage, _cast: Cast, _rng: random.Random, seconds: float) -> None:
    stage.signal_valkey(signal.SIGSTOP)
    await asyncio.sleep(2 * seconds)
    stage.signal_valkey(signal.SIGCONT)


@fault("Valkey half-open")
async def deafen(stage: Stage, _cast: Cast, _rng: random.Random, seconds: float) -> None:
    stage.wire.deaf = True
    await asyncio.sleep(3 * seconds)
    stage.wire.deaf = False


@fault("subscribers cut off")
async def cut_subscribers(stage: Stage, _cast: Cast, _rng: random.Random, _seconds: float) -> None:
    async with aioredis.Redis.from_url(stage.valkey.url()) as administrator:
        await administrator.client_kill_filter(_type="pubsub")


@fault("PostgreSQL killed")
async def kill_postgres(stage: Stage, _cast: Cast, _rng: random.Random, seconds: float) -> None:
    await stage.do(stage.postgres.kill)
    await asyncio.sleep(seconds)
    await stage.do(stage.start_postgres)


@fault("database sessions ended")
async def end_sessions(stage: Stage, _cast: Cast, _rng: random.Random, _seconds: float) -> None:
    def end() -> None:
        with psycopg.connect(stage.postgres.url(), autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

    await stage.do(end)


@fault("clients cut off")
async def drop_clients(_stage: Stage, cast: Cast, rng: random.Random, _seconds: float) -> None:
    for witness in rng.sample(cast.witnesses, len(cast.witnesses) // 2):
        witness.drop()
