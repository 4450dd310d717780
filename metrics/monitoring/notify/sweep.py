"""The part of each tick that keeps muting from losing messages."""

from __future__ import annotations

from metrics.monitoring.notify import planner, queue
from metrics.monitoring.notify.sources import SOURCES


def sweep(_slot: int) -> None:
    """Release muted messages, and report alerts that fire although nobody was notified.

    1  drop messages that are not needed any more: a muted alert that was resolved was never reported
    2  release messages that nothing mutes now; they say since when the alert has fired
    3  an episode of which no message arrived or waits gets one late message for each channel: there was no channel
       when it was raised, or all attempts failed until they were given up
    """
    queue.settle()
    queue.release()
    firing = {(one.alert, one.episode): one for one in SOURCES.firing()}
    if firing:
        for episode in firing.keys() - queue.known_episodes(firing.keys()):
            one = firing[episode]
            planner.plan_late(one.alert, one.episode, one.severity, one.facts)
