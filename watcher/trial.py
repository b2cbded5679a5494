"""Try sinks out: send a test through the real path, or show what would be sent."""

from collections.abc import Sequence
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

#: Beside the sink's own time limit: after failures a sink rests for up to a minute.
_WAIT_S = 70.0
_NOT_TRIED = (
    "the running daemon did not come to it; if it does not know this sink yet, start it again, else see "
    "`watcher history --sink NAME`"
)
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
    deliveries = [_delivery(event, name) for name in names or config.model.sinks]
    path = state_path(config)
    return await (_by_the_daemon if is_locked(path) else _by_ourselves)(config, deliveries)


async def _by_the_daemon(config: Config, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Hand the test to the running daemon, which has the secrets; what it does not try soon it shall not try later."""
    async with open_store(state_path(config)) as store:
        await store.add(deliveries[0].event, deliveries)
        with anyio.move_on_after(_patience(config, deliveries)):
            # Another process writes: there is nothing to wait on but the rows.
            while await _untried(store, deliveries):  # noqa: ASYNC110
                await anyio.sleep(_LOOK_S)
        for delivery in await _untried(store, deliveries):
            await store.settle(delivery, Dead(SystemClock().now(), _NOT_TRIED))
        return await _outcomes(store, deliveries)


def _patience(config: Config, deliveries: Sequence[Delivery]) -> float:
    """Return how many seconds a daemon may need that is neither stuck nor ignorant of a sink."""
    models = (config.model.sinks[delivery.sink] for delivery in deliveries)
    return _WAIT_S + max(model.time_limit.total_seconds() for model in models)


async def _by_ourselves(config: Config, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Send the test through those sinks whose secrets are there."""
    absent = {each.sink: config.absent_secrets("sinks", each.sink) for each in deliveries}
    missing = [Outcome(sink, "", str(problem)) for sink, problems in absent.items() for problem in problems]
    ready = [delivery for delivery in deliveries if not absent[delivery.sink]]
    if not ready:
        return missing
    async with opened_lanes(config, clock=SystemClock(), sinks=[each.sink for each in ready]) as (store, lanes):
        await store.add(ready[0].event, ready)
        async with anyio.create_task_group() as attempts:
            for lane, delivery in zip(lanes, ready, strict=True):
                attempts.start_soon(lane.attempt_only, delivery)
        found = missing + await _outcomes(store, ready)
    order = [delivery.sink for delivery in deliveries]
    return sorted(found, key=lambda outcome: order.index(outcome.sink))


async def _outcomes(store: Store, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Return what came of the deliveries, in their order."""
    rows = await store.history(most=_MOST_RECEIVERS, event=deliveries[0].event.id)
    return [
        Outcome(row.sink, row.receiver, "" if row.state is DeliveryState.DELIVERED else row.error or row.state.value)
        for delivery in deliveries
        for row in sorted(rows, key=lambda row: row.receiver)
        if row.sink == delivery.sink
    ]


async def _untried(store: Store, deliveries: Sequence[Delivery]) -> list[Delivery]:
    rows = await store.history(most=_MOST_RECEIVERS, event=deliveries[0].event.id)
    waiting = {row.sink for row in rows if row.state is DeliveryState.DUE and not row.receiver}
    return [delivery for delivery in deliveries if delivery.sink in waiting]


def _test_event(config: Config) -> Event:
    name, account = next(iter(config.model.accounts.items()))
    of_account = Account(name=name, uid=account.uids[0] if len(account.uids) == 1 else "", site=account.site)
    language = config.model.defaults.language
    return sample.trial(language, url=account.console, now=SystemClock().now(), account=of_account)


def _delivery(event: Event, sink: str) -> Delivery:
    at = event.recorded_at
    return Delivery(event=event, sink=sink, state=DeliveryState.DUE, attempts=0, due_at=at, created_at=at)


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
