"""Extension points of the kernel: the tables that layers above fill in `AppConfig.ready()`.

    register_aggregate     a kind of record: its state, commands and rules
    project_inline         a read table kept in the transaction that appends the events
    add_purgers            steps that delete readable copies of erased data
    explain_constraint     the domain error behind a broken database constraint
    recall_before_merge    a function that looks for an earlier answer before a stale command is merged
    run_as_owner           a function that the application may run with the owner's privileges

A registration may be repeated. Subscriptions and rebuildable read tables have registries of their own:
`subscriptions.checkpoints.register`, `rebuild.builder.register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from events import aggregate, errors
from events.types import Command, NewEvent

# The new events of one category, in stream order.
Projection: TypeAlias = Callable[[Sequence[NewEvent]], None]

# A step of a purge: subjects, row limit -> rows changed, in the caller's transaction. Called again while it reaches the
# limit.
Purger: TypeAlias = Callable[[Sequence[str], int], int]


class Sweep(NamedTuple):
    """A step of a purge that goes through many rows in order, so that no batch reads the rows of the ones before.

    run    subjects, row limit, place -> rows read, and the place where the next batch begins, or None at the end. A
           place is a JSON value, None at the beginning
    count  subjects -> the number of rows it will read, for its progress
    """

    run: Callable[[Sequence[str], int, Any], tuple[int, Any]]
    count: Callable[[Sequence[str]], int]


# Raises the command's earlier answer, where there is one.
Recall: TypeAlias = Callable[[Command], None]

inline_projections: dict[str, list[Projection]] = {}
purgers: dict[str, Purger | Sweep] = {}
constraint_errors: dict[str, Callable[[], errors.EventsError]] = {}
recalls: list[Recall] = []
owner_functions: list[str] = []


def register_aggregate(record: aggregate.Aggregate) -> None:
    """Make a kind of record known; see `aggregate.register` for what it refuses."""
    aggregate.register(record)


def project_inline(category: str, projection: Projection) -> None:
    """Register `projection` for `category`: it is called with new events before they are appended.

    Projections of one category run in the order of registration."""
    registered = inline_projections.setdefault(category, [])
    if projection not in registered:
        registered.append(projection)


def add_purgers(steps: Mapping[str, Purger | Sweep]) -> None:
    """Append steps to every purge, by name, in this order."""
    purgers.update(steps)


def explain_constraint(constraint: str, error: Callable[[], errors.EventsError]) -> None:
    """Register the domain error for a constraint: `error()` is raised when a statement breaks it."""
    constraint_errors[constraint] = error


def recall_before_merge(recall: Recall) -> None:
    """Register `recall`, which is called with each command that was decided against an older version."""
    if recall not in recalls:
        recalls.append(recall)


def run_as_owner(function: str) -> None:
    """Have `grants.grant` let the application run this function, ``name(types)``, with the privileges of its owner."""
    if function not in owner_functions:
        owner_functions.append(function)
