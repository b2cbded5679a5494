"""The loops of the daemon: side by side for good, or one after the other for one round."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import structlog

from watcher.discover import Discovery
from watcher.dispatch import Lane, gather
from watcher.envelope import rfc3339
from watcher.errors import StoreUnavailable
from watcher.log import Edges
from watcher.poll import Poller
from watcher.ports import Clock
from watcher.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_GATHER_EVERY_S = 2.0
_PRUNE_EVERY = timedelta(hours=12)
#: How long attempts under way may take to end after SIGTERM; systemd waits longer than this.
STOP_WITHIN = timedelta(seconds=8)


@dataclass(kw_only=True)
class Daemon:
    """The parts, put together: ``run`` for good, ``once`` for one round."""

    store: Store
    clock: Clock
    pollers: list[Poller]
    discoveries: list[Discovery]
    lanes: list[Lane]
    history: timedelta
    stop_within: timedelta = STOP_WITHIN
    #: What sinks do beside deliveries, for as long as the daemon runs.
    loops: list[Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=list)
    _has_held: bool = True
    _edges: Edges = field(default_factory=lambda: Edges(log))

    def on_recorded(self, *, is_any_held: bool) -> None:
        """Wake whoever has something to do after events were recorded."""
        self._has_held |= is_any_held
        for lane in self.lanes:
            lane.ring()

    # --- for good -----------------------------------------------------------------------------------------

    async def run(self, *, until: anyio.Event) -> None:
        """Watch until the event is set, then end what is under way."""
        async with anyio.create_task_group() as beside:
            for loop in self.loops:
                beside.start_soon(loop)
            await self._watch_and_deliver(until)
            beside.cancel_scope.cancel()
        await self._save()

    async def _watch_and_deliver(self, until: anyio.Event) -> None:
        async with anyio.create_task_group() as lanes:
            for lane in self.lanes:
                lanes.start_soon(lane.run)
            async with anyio.create_task_group() as watching:
                for poller in self.pollers:
                    watching.start_soon(poller.run)
                for discovery in self.discoveries:
                    watching.start_soon(discovery.run)
                watching.start_soon(self._gather_again_and_again)
                watching.start_soon(self._prune_again_and_again)
                await until.wait()
                watching.cancel_scope.cancel()
            for lane in self.lanes:
                lane.stop()
            # What is not ended by then is repeated at the next start, under the same id.
            lanes.cancel_scope.deadline = anyio.current_time() + self.stop_within.total_seconds()

    async def _gather_again_and_again(self) -> None:
        while True:
            if self._has_held:
                try:
                    await self._gather()
                    self._edges.worked("store", "store available again")
                except StoreUnavailable as error:
                    self._edges.failed("store", "store unavailable", error=error, next="digests wait")
            await anyio.sleep(_GATHER_EVERY_S)

    async def _gather(self, *, all_of_them: bool = False) -> None:
        """Let digests out: those whose time has come, or all when the first looks are over."""
        is_complete = all_of_them or self.is_settled
        # Before the look at the store: what is held from now on is another round's.
        self._has_held = not is_complete
        try:
            messages = await gather(self.store, now=self.clock.now(), all_of_them=is_complete)
        except StoreUnavailable:
            self._has_held = True
            raise
        if messages:
            self.on_recorded(is_any_held=False)

    @property
    def is_settled(self) -> bool:
        """Tell whether every list was read, and every ticket looked at, at least once."""
        return all(d.was_tried for d in self.discoveries) and all(p.is_settled for p in self.pollers)

    async def _prune_again_and_again(self) -> None:
        while True:
            try:
                removed = await self.store.prune(before=self.clock.now() - self.history)
                if removed:
                    log.info("old events removed", count=removed)
            except StoreUnavailable as error:
                log.warning("store unavailable", error=str(error))
            await self.clock.sleep(_PRUNE_EVERY)

    async def _save(self) -> None:
        for poller in self.pollers:
            try:
                await poller.save()
            except StoreUnavailable as error:
                log.warning("last poll times not saved", error=str(error))

    def tickets(self) -> list[dict[str, str | None]]:
        """Return when each ticket was last looked at, and with what error; for the commands."""
        return [
            {
                "account": poller.account,
                "ticket": watched.ticket.id,
                "last_poll_at": rfc3339(watched.last_poll_at),
                "error": watched.error,
            }
            for poller in self.pollers
            for watched in poller.watched.values()
            if watched.last_poll_at
        ]

    # --- one round ----------------------------------------------------------------------------------------

    async def once(self) -> list[str]:
        """Discover, look at every ticket, attempt every due delivery, each once; return what failed."""
        await _side_by_side([discovery.look for discovery in self.discoveries])
        await _side_by_side([poller.look_at_all for poller in self.pollers])
        await self._gather(all_of_them=True)
        await _side_by_side([lane.attempt_all for lane in self.lanes])
        await self._save()
        return list(self._failures())

    def _failures(self) -> Iterator[str]:
        for discovery in self.discoveries:
            if discovery.error:
                yield f"account {discovery.account.name}, watch {discovery.rule.name}: {discovery.error}"
        for poller in self.pollers:
            for watched in poller.watched.values():
                if watched.error:
                    yield f"account {poller.account}, ticket {watched.ticket.id}: {watched.error}"
        for lane in self.lanes:
            if lane.failures:
                yield f"sink {lane.name}: {lane.failures} not delivered; {lane.last_error}"


async def _side_by_side(calls: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    async with anyio.create_task_group() as group:
        for call in calls:
            group.start_soon(call)
