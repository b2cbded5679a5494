"""Kill the watcher at every point of a run, start it again, and see that nobody missed anything.

In one process: the run is cut by an exception before each statement, each commit and each send; what stands on the
disk in that moment is copied, and a new watcher goes on with the copy.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.fakes import FakeApi, FakeClock, FakeSink, account, at, note, rule, ticket
from watcher.daemon import Daemon
from watcher.detect import event_id
from watcher.dispatch import Lane
from watcher.model import Delivery
from watcher.pacer import Pacer
from watcher.poll import Poller
from watcher.retry import RetryPolicy
from watcher.route import Routing
from watcher.schedule import Cadence, Pace
from watcher.store import Store, open_store
from watcher.watched import Watched

SINKS = ("hub", "mail")
#: Two notes that stand there unread at the first look, and one that comes afterwards.
NOTES = (note(1, minutes=-20), note(2, minutes=-10), note(3, minutes=50))


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Executioner:
    """Counts the points that a run passes, and kills it at one of them."""

    at_point: int | None
    folder: Path
    remains: Path
    points: list[str] = field(default_factory=list)
    is_dead: bool = False

    def pass_point(self, name: str) -> None:
        if self.is_dead:
            return
        if len(self.points) == self.at_point:
            self.is_dead = True
            # What a dead process leaves behind: the files as they are, its open transaction not among them.
            shutil.copytree(self.folder, self.remains)
            raise Killed(name)
        self.points.append(name)

    def watch_over(self, store: Store) -> None:
        for engine in (store._write_engine.sync_engine, store._read_engine.sync_engine):
            sa.event.listen(engine, "before_cursor_execute", lambda *args: self.pass_point(args[2].split()[0]))
            sa.event.listen(engine, "commit", lambda _connection: self.pass_point("COMMIT"))


@dataclass
class Watching(FakeSink):
    """A sink before and after whose sends the process may die."""

    pass_point: Callable[[str], None] = lambda _name: None

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        self.pass_point("before send")
        await super().send(delivery, now=now)
        self.pass_point("after send")


def ids_of(sinks: list[Watching]) -> dict[str, list[str]]:
    """Return for each sink the ids of all that was told, the events of digests among them."""
    return {sink.name: [each.id for told in sink.received for each in told.events or (told,)] for sink in sinks}


async def live(folder: Path, sinks: list[Watching], pass_point: Callable[[str], None], over: Any = None) -> None:
    """Run a watcher: a first look, digests, deliveries, a new note, deliveries."""
    clock, api = FakeClock(at(60)), FakeApi()
    async with open_store(folder / "watcher.db") as store:
        if over:
            over(store)
        since = await store.watch_since("production", now=at(30))
        lanes = [
            Lane(sink=sink, store=store, clock=clock, policy=RetryPolicy()) for sink in sinks if sink.name in SINKS
        ]
        daemon = Daemon(store=store, clock=clock, pollers=[], discoveries=[], lanes=lanes, history=at(0) - at(-99999))
        poller = Poller(
            account="prod",
            api=api,
            store=store,
            clock=clock,
            pacer=Pacer(clock, Pace(rate=1000.0, is_learnt=False)),
            routing=Routing(sinks=SINKS),
            on_recorded=daemon.on_recorded,
        )
        daemon.pollers.append(poller)
        for number in ("A", "B"):
            watched = Watched(account=account(), ticket=ticket(number), rule=rule(), cadence=Cadence())
            watched.rule = rule(since=(since - at(0)).total_seconds() / 60)
            poller.enlist(watched)
        for shown in (NOTES[:2], NOTES):
            api.shows("A", *shown)
            api.shows("B")
            pass_point("before a round")
            await daemon.once()


def everything() -> set[str]:
    return {event_id("prod", "A", each.id) for each in NOTES}


def is_killed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(is_killed(each) for each in error.exceptions)
    return isinstance(error, Killed)


async def killed_at(point: int | None, place: Path) -> tuple[Executioner, dict[str, list[str]]]:
    """Kill a run at a point, let another one go on; return who killed it and the ids that each sink got from both."""
    (place / "first").mkdir(parents=True)
    executioner = Executioner(point, place / "first", place / "remains")
    sinks = [Watching(name=name, pass_point=executioner.pass_point) for name in SINKS]
    try:
        await live(place / "first", sinks, executioner.pass_point, executioner.watch_over)
    except BaseException as error:
        if not is_killed(error):
            raise
    if executioner.is_dead:
        received = {sink.name: list(sink.received) for sink in sinks}
        after = [Watching(name=name, received=received[name]) for name in SINKS]
        await live(executioner.remains, after, lambda _name: None)
        return executioner, ids_of(after)
    return executioner, ids_of(sinks)


async def test_without_a_crash_each_note_is_told_once(tmp_path: Path) -> None:
    _, told = await killed_at(None, tmp_path)
    for ids in told.values():
        assert len(ids) == 3
        assert set(ids) == everything()


async def test_a_crash_at_any_point_loses_nothing_and_repeats_only_under_the_same_ids(tmp_path: Path) -> None:
    whole, _ = await killed_at(None, tmp_path / "whole")
    assert len(whole.points) > 50
    assert {"BEGIN", "COMMIT", "SELECT", "INSERT", "UPDATE", "before send", "after send"} <= set(whole.points)
    repeats = 0
    for point in range(len(whole.points)):
        executioner, told = await killed_at(point, tmp_path / str(point))
        assert executioner.is_dead
        for sink, ids in told.items():
            assert set(ids) == everything(), f"{sink} after a crash at point {point}, {whole.points[point]}"
            repeats += len(ids) - len(set(ids))
        shutil.rmtree(tmp_path / str(point))
    # Nothing but a crash between a send and the commit of its outcome may repeat.
    risky = sum(name == "after send" for name in whole.points)
    assert 0 < repeats <= 16 * risky
