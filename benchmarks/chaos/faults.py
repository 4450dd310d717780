"""The table of faults. Each function causes a fault for about `seconds` and then repairs it."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable

import psycopg
import redis.asyncio as aioredis

from benchmarks.chaos import alerts
from benchmarks.chaos.clients import ClientSet
from benchmarks.chaos.stack import Stack

Fault = Callable[[Stack, ClientSet, random.Random, float], Awaitable[None]]
FAULTS: dict[str, Fault] = {}


def replacing(name: str) -> Fault:
    """A step of a deploy: a process of the previous release is stopped, and one of this release takes its place."""

    async def replace(stack: Stack, _clients: ClientSet, _rng: random.Random, _seconds: float) -> None:
        stack.processes[name].terminate()
        await stack.do(stack.processes[name].wait)
        await stack.do(stack.spawn, name)
        await stack.do(stack.await_webs)

    return replace


REPLACED = ("worker1", "web1", "relay1", "web2", "relay2", "worker2")
ROLL: dict[str, Fault] = {f"{name} replaced": replacing(name) for name in REPLACED}


def fault(name: str) -> Callable[[Fault], Fault]:
    def add(function: Fault) -> Fault:
        FAULTS[name] = function
        return function

    return add


@fault("web killed")
async def kill_web(stack: Stack, _clients: ClientSet, rng: random.Random, seconds: float) -> None:
    name = rng.choice(sorted(stack.ports))
    await stack.do(stack.kill, name)
    await asyncio.sleep(seconds)
    await stack.do(stack.spawn, name)


@fault("web deployed")
async def deploy_web(stack: Stack, _clients: ClientSet, rng: random.Random, _seconds: float) -> None:
    name = rng.choice(sorted(stack.ports))
    stack.processes[name].terminate()
    await stack.do(stack.processes[name].wait)
    await stack.do(stack.spawn, name)


@fault("one relay killed")
async def kill_relay(stack: Stack, _clients: ClientSet, rng: random.Random, seconds: float) -> None:
    name = rng.choice(["relay1", "relay2"])
    await stack.do(stack.kill, name)
    await asyncio.sleep(seconds)
    await stack.do(stack.spawn, name)


@fault("both relays killed")
async def kill_relays(stack: Stack, _clients: ClientSet, _rng: random.Random, seconds: float) -> None:
    for name in ("relay1", "relay2"):
        await stack.do(stack.kill, name)
    await asyncio.sleep(seconds)
    await stack.alerts.until_raised(alerts.RELAY)
    for name in ("relay1", "relay2"):
        await stack.do(stack.spawn, name)


@fault("sampler killed")
async def kill_sampler(stack: Stack, _clients: ClientSet, _rng: random.Random, seconds: float) -> None:
    await stack.do(stack.kill, "sampler")
    await asyncio.sleep(seconds)
    await stack.do(stack.spawn, "sampler")


@fault("Valkey killed")
async def kill_valkey(stack: Stack, _clients: ClientSet, _rng: random.Random, seconds: float) -> None:
    await stack.do(stack.valkey.kill)
    await asyncio.sleep(seconds)
    await stack.alerts.until_raised(alerts.VALKEY)
    await stack.do(stack.valkey.start)


@fault("Valkey paused")
async def pause_valkey(stack: Stack, _clients: ClientSet, _rng: random.Random, seconds: float) -> None:
    stack.signal_valkey(signal.SIGSTOP)
    await asyncio.sleep(2 * seconds)
    stack.signal_valkey(signal.SIGCONT)


@fault("Valkey half-open")
async def silence_valkey(stack: Stack, _clients: ClientSet, _rng: random.Random, seconds: float) -> None:
    stack.proxy.silent = True
    await asyncio.sleep(3 * seconds)
    stack.proxy.silent = False


@fault("subscribers cut off")
async def cut_subscribers(stack: Stack, _clients: ClientSet, _rng: random.Random, _seconds: float) -> None:
    async with aioredis.Redis.from_url(stack.valkey.url()) as administrator:
        await administrator.client_kill_filter(_type="pubsub")


@fault("PostgreSQL killed")
async def kill_postgres(stack: Stack, _clients: ClientSet, _rng: random.Random, seconds: float) -> None:
    await stack.do(stack.postgres.kill)
    await asyncio.sleep(seconds)
    await stack.do(stack.start_postgres)


@fault("database sessions ended")
async def end_sessions(stack: Stack, _clients: ClientSet, _rng: random.Random, _seconds: float) -> None:
    def end() -> None:
        with psycopg.connect(stack.postgres.url(), autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

    await stack.do(end)


@fault("clients cut off")
async def drop_clients(_stage: Stack, clients: ClientSet, rng: random.Random, _seconds: float) -> None:
    for watcher in rng.sample(clients.watchers, len(clients.watchers) // 2):
        watcher.drop()
