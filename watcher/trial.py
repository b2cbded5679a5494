"""Try sinks out: send a test through the real path, or show what would be sent."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio

from watcher import sample
from watcher.assemble import opened_lanes, state_path
from watcher.clock import SystemClock
from watcher.config.load import Config
from watcher.document import Problem, ProblemsFound, dotted
from watcher.errors import ConfigError, StoreError
from watcher.model import Account, Dead, Delivery, DeliveryState, Event, Kind
from watcher.outlets import open_outlets
from watcher.store import Store, open_store
from watcher.store.database import is_locked

#: A running daemon looks at its outbox every few seconds, and a sink may take its time.
_WAIT_S = 60.0
_LOOK_S = 0.2
_MOST_RECEIVERS = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the test at one sink, or at one receiver of it."""

    sink: str
    receiver: str
    #: Why it was not delivered; "" if it was.
    error: str

    def __str__(self) -> str:
        where = f"{self.sink} ({self.receiver})" if self.receiver else self.sink
        return f"{where}: NOT delivered: {self.error}" if self.error else f"{where}: delivered"


async def test(config: Config, names: Sequence[str]) -> list[Outcome]:
    """Send a test event to these sinks (all, if none is named); a running daemon does it, else this process."""
    event = _test_event(config)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names or config.model.sinks}
    for name in outcomes:
        outcomes[name] += [Outcome(name, "", str(each)) for each in config.absent_secrets("sinks", name)]
    deliveries = [_delivery(event, name) for name, absent in outcomes.items() if not absent]
    if deliveries:
        async with _store(config, deliveries) as store:
            for row in await store.history(most=_MOST_RECEIVERS, event=event.id):
                error = "" if row.state is DeliveryState.DELIVERED else row.error or row.state.value
                outcomes[row.sink].append(Outcome(row.sink, row.receiver, error))
    return [outcome for each in outcomes.values() for outcome in each]


def _test_event(config: Config) -> Event:
    name, account = next(iter(config.model.accounts.items()))
    of_account = Account(name=name, uid=account.uids[0] if len(account.uids) == 1 else "", site=account.site)
    language = config.model.defaults.language
    return sample.trial(language, url=account.console, now=SystemClock().now(), account=of_account)


def _delivery(event: Event, sink: str) -> Delivery:
    at = event.recorded_at
    return Delivery(event=event, sink=sink, state=DeliveryState.DUE, attempts=0, due_at=at, created_at=at)


@asynccontextmanager
async def _store(config: Config, deliveries: Sequence[Delivery]) -> AsyncIterator[Store]:
    """Lend the store after each delivery was attempted."""
    path = state_path(config)
    if is_locked(path):
        async with open_store(path) as store:
            await store.add(deliveries[0].event, deliveries)
            await _wait_for_the_daemon(store, deliveries)
            yield store
        return
    names = [delivery.sink for delivery in deliveries]
    async with opened_lanes(config, clock=SystemClock(), sinks=names) as (store, lanes):
        await store.add(deliveries[0].event, deliveries)
        async with anyio.create_task_group() as attempts:
            for lane, delivery in zip(lanes, deliveries, strict=True):
                attempts.start_soon(lane.attempt_only, delivery)
        yield store


async def _wait_for_the_daemon(store: Store, deliveries: Sequence[Delivery]) -> None:
    """Return when the running daemon has tried all; what it has not tried in time it shall not try later."""
    with anyio.move_on_after(_WAIT_S):
        # Another process writes: there is nothing to wait on but the rows.
        while await _untried(store, deliveries):  # noqa: ASYNC110
            await anyio.sleep(_LOOK_S)
    reason = (
        f"the running daemon did not try it within {_WAIT_S:g} s; it may not know this sink (restart it), or rest "
        "after failures (`watcher history --sink NAME`)"
    )
    for delivery in await _untried(store, deliveries):
        await store.settle(delivery, Dead(SystemClock().now(), reason))


async def _untried(store: Store, deliveries: Sequence[Delivery]) -> list[Delivery]:
    rows = await store.history(most=_MOST_RECEIVERS, event=deliveries[0].event.id)
    waiting = {row.sink for row in rows if row.state is DeliveryState.DUE}
    return [delivery for delivery in deliveries if delivery.sink in waiting]


async def problems(config: Config) -> list[Problem]:
    """Return what is wrong with sinks whose secrets are there: what only building them shows.

    Nothing is sent, and no program is run for a secret.
    """
    found: list[Problem] = []
    async with open_outlets(config) as outlets:
        for name in config.model.sinks:
            if config.absent_secrets("sinks", name) or config.runs_commands("sinks", name):
                continue
            try:
                outlets.build(name)
            except ProblemsFound as error:
                found += error.problems
            except ConfigError as error:
                found.append(Problem(config.mark("sinks", name), dotted(("sinks", name)), str(error)))
    return found


async def preview(config: Config, names: Sequence[str], told: str) -> list[tuple[str, str]]:
    """Return for each of these sinks (all, if none is named) what would be sent; nothing is sent.

    ``told`` is a kind of event, of which there is an example, or the id of an event in the store.
    """
    event = await _event_to_show(config, told)
    async with open_outlets(config, hides_secrets=True) as outlets:
        sinks = [outlets.build(name) for name in names or config.model.sinks]
        return [(sink.name, sink.preview(event, now=SystemClock().now())) for sink in sinks]


async def _event_to_show(config: Config, told: str) -> Event:
    if told == Kind.TEST:
        return _test_event(config)
    return sample.example(Kind(told)) if told in set(Kind) else await _stored(config, told)


async def _stored(config: Config, event_id: str) -> Event:
    path = state_path(config)
    if path.exists():
        async with open_store(path) as store:
            found = await store.event(event_id)
            if found:
                return found
    raise StoreError(f"there is no event {event_id}; `watcher history` lists those that are kept")
