"""Run the daemon as a process does: with signals, a clock, and an end."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import structlog

from watcher.assemble import assembled, opened_lanes, state_path
from watcher.clock import SystemClock
from watcher.config.load import Config
from watcher.daemon import Daemon
from watcher.errors import StoreError
from watcher.model import DeliveryState
from watcher.signals import listen_for_signals
from watcher.store import Store, open_store
from watcher.store.database import is_locked
from watcher.web.control import open_control

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_REPLAY_WAIT_S = 30.0
_REPLAY_LOOK_S = 0.2
_MOST_SINKS = 1000


async def forever(config: Config, dry_run: bool = False) -> None:  # noqa: FBT001, FBT002
    """Watch until SIGTERM or SIGINT; a second one ends the process at once."""
    stop = anyio.Event()
    async with (
        assembled(config, clock=SystemClock(), dry_run=dry_run) as daemon,
        open_control(daemon.store.path, {"tickets": daemon.tickets}),
        anyio.create_task_group() as group,
    ):
        await group.start(listen_for_signals, stop)
        _say_started(config, daemon)
        await daemon.run(until=stop)
        log.info("stopped")
        group.cancel_scope.cancel()


async def once(config: Config, dry_run: bool = False) -> list[str]:  # noqa: FBT001, FBT002
    """Do one round; return what failed, one sentence each."""
    async with assembled(config, clock=SystemClock(), dry_run=dry_run) as daemon:
        return await daemon.once()


def _say_started(config: Config, daemon: Daemon) -> None:
    log.info(
        "started",
        config=str(config.path),
        store=str(daemon.store.path),
        accounts=len(daemon.pollers),
        watches=len(config.watches),
        sinks=len(daemon.lanes),
    )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of sending an event again to one sink."""

    is_delivered: bool
    sentence: str


async def replay(config: Config, event: str, sinks: Sequence[str]) -> list[Replayed]:
    """Send an event again; a running daemon does it, else this process."""
    path = state_path(config)
    if not path.exists():
        raise StoreError(f"there is no store at {path} yet; nothing was ever announced")
    if is_locked(path):
        async with open_store(path) as store:
            chosen = await _mark(store, event, sinks)
            with anyio.move_on_after(_REPLAY_WAIT_S):
                # Another process writes: there is nothing to wait on but the rows.
                while await _is_any_untried(store, event, chosen):  # noqa: ASYNC110
                    await anyio.sleep(_REPLAY_LOOK_S)
            return await _outcomes(store, event, chosen)
    async with opened_lanes(config, clock=SystemClock(), sinks=sinks or config.model.sinks) as (store, lanes):
        chosen = await _mark(store, event, sinks)
        for lane in lanes:
            if lane.name in chosen:
                lane.disabled = ""
                await lane.attempt_all()
        return await _outcomes(store, event, chosen)


async def _mark(store: Store, event: str, sinks: Sequence[str]) -> list[str]:
    try:
        chosen = await store.replay(event, sinks=sinks, now=SystemClock().now())
    except KeyError as error:
        raise StoreError(f"there is no event {event}; `watcher history` lists those that are kept") from error
    if not chosen:
        raise StoreError(f"event {event} never went to {', '.join(sinks)}")
    return chosen


async def _is_any_untried(store: Store, event: str, sinks: Sequence[str]) -> bool:
    rows = await store.history(most=_MOST_SINKS, event=event)
    return any(row.state is DeliveryState.DUE and not row.attempts for row in rows if row.sink in sinks)


async def _outcomes(store: Store, event: str, sinks: Sequence[str]) -> list[Replayed]:
    outcomes = []
    for row in await store.history(most=_MOST_SINKS, event=event):
        if row.sink not in sinks:
            continue
        delivered = row.state is DeliveryState.DELIVERED
        what = "delivered" if delivered else f"{row.state.value}: {row.error or 'not tried yet'}"
        where = f"{row.sink} ({row.receiver})" if row.receiver else row.sink
        outcomes.append(Replayed(delivered, f"{event} to {where}: {what}"))
    return outcomes
