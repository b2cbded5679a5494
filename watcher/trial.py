"""Try sinks out: send a test through the real path, or show what would be sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import anyio

from watcher import sample
from watcher.assemble import opened_lanes, state_path
from watcher.clock import SystemClock
from watcher.config.common import TextModel
from watcher.config.load import Config
from watcher.document import Problem, ProblemsFound, dotted
from watcher.errors import ConfigError, StoreError
from watcher.model import Account, Dead, Delivery, DeliveryState, Event, Kind, Language
from watcher.outlets import open_outlets
from watcher.store import HistoryRow, Store, open_store
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
    deliveries = _deliveries(config, names or list(config.model.sinks))
    path = state_path(config)
    return await (_by_the_daemon if is_locked(path) else _by_ourselves)(config, deliveries)


async def _by_the_daemon(config: Config, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Hand the test to the running daemon, which has the secrets; what it does not try soon it shall not try later."""
    async with open_store(state_path(config)) as store:
        await _add(store, deliveries)
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
        await _add(store, ready)
        async with anyio.create_task_group() as attempts:
            for lane, delivery in zip(lanes, ready, strict=True):
                attempts.start_soon(lane.attempt_only, delivery)
        found = missing + await _outcomes(store, ready)
    order = [delivery.sink for delivery in deliveries]
    return sorted(found, key=lambda outcome: order.index(outcome.sink))


async def _add(store: Store, deliveries: Sequence[Delivery]) -> None:
    """Put the test in the outbox; who tests a sink that is switched off wants it to be tried again."""
    for delivery in deliveries:
        await store.enable(delivery.sink)
    for event in _events(deliveries):
        await store.add(event, [delivery for delivery in deliveries if delivery.event == event])


async def _outcomes(store: Store, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Return what came of the deliveries, in their order."""
    rows = await _rows(store, deliveries)
    return [
        Outcome(row.sink, row.receiver, "" if row.state is DeliveryState.DELIVERED else row.error or row.state.value)
        for delivery in deliveries
        for row in sorted(rows, key=lambda row: row.receiver)
        if row.sink == delivery.sink
    ]


async def _untried(store: Store, deliveries: Sequence[Delivery]) -> list[Delivery]:
    rows = await _rows(store, deliveries)
    waiting = {row.sink for row in rows if row.state is DeliveryState.DUE and not row.receiver}
    return [delivery for delivery in deliveries if delivery.sink in waiting]


async def _rows(store: Store, deliveries: Sequence[Delivery]) -> list[HistoryRow]:
    found = [await store.history(most=_MOST_RECEIVERS, event=event.id) for event in _events(deliveries)]
    return [row for rows in found for row in rows]


def _events(deliveries: Sequence[Delivery]) -> list[Event]:
    return list({delivery.event.id: delivery.event for delivery in deliveries}.values())


def _language_of(config: Config, sink: str) -> Language:
    model = config.model.sinks[sink]
    own = model.language if isinstance(model, TextModel) else None
    return own or config.model.defaults.language


def _deliveries(config: Config, sinks: Sequence[str]) -> list[Delivery]:
    """Return a delivery for each sink, of a test event in its language."""
    now = SystemClock().now()
    languages = dict.fromkeys(_language_of(config, sink) for sink in sinks)
    # The id follows from the millisecond.
    events = {
        language: _test_event(config, language, now=now + timedelta(milliseconds=position))
        for position, language in enumerate(languages)
    }
    return [_delivery(events[_language_of(config, sink)], sink) for sink in sinks]


def _test_event(config: Config, language: Language, *, now: datetime) -> Event:
    name, account = next(iter(config.model.accounts.items()))
    of_account = Account(name=name, uid=account.uids[0] if len(account.uids) == 1 else "", site=account.site)
    return sample.trial(language, url=account.console, now=now, account=of_account)


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
    events = await _events_to_show(config, names or list(config.model.sinks), told)
    async with open_outlets(config, hides_secrets=True) as outlets:
        sinks = [outlets.build(name) for name in events]
        return [(sink.name, sink.preview(events[sink.name], now=SystemClock().now())) for sink in sinks]


async def _events_to_show(config: Config, sinks: Sequence[str], told: str) -> dict[str, Event]:
    if told == Kind.TEST:
        now = SystemClock().now()
        return {sink: _test_event(config, _language_of(config, sink), now=now) for sink in sinks}
    event = sample.example(Kind(told)) if told in set(Kind) else await _stored(config, told)
    return dict.fromkeys(sinks, event)


async def _stored(config: Config, event_id: str) -> Event:
    path = state_path(config)
    if path.exists():
        async with open_store(path) as store:
            found = await store.event(event_id)
            if found:
                return found
    kinds = ", ".join(Kind)
    raise StoreError(
        f"there is no event {event_id}; `watcher history` lists those that are kept, and there are examples of {kinds}"
    )
