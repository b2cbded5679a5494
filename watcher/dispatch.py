"""Stage two: due deliveries -> sink -> verdict -> settle. One lane for each sink, so that none delays another."""

import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup

from watcher import retry, route
from watcher.bell import Bell
from watcher.errors import PermanentError, SinkGone, SinkPartly, SinkUnavailable, StoreUnavailable, TransientError
from watcher.log import Edges
from watcher.model import Dead, Delivered, Delivery, Retry, Verdict
from watcher.ports import Clock, Sink
from watcher.retry import RetryPolicy
from watcher.route import LARGEST_DIGEST
from watcher.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_LONGEST_NAP_S = 5.0
_SHORTEST_NAP_S = 0.01
# In one round, so long is tried to write down what came of an attempt; the daemon tries until it is stopped.
_ROUND_PATIENCE_S = 30.0
_STORE_PAUSE = timedelta(seconds=2)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


async def gather(store: Store, *, now: datetime, all_of_them: bool) -> int:
    """Let out what is held and whose time has come (or all of it), as digests; return how many messages came out."""
    held = await store.held(until=_LATEST if all_of_them else now)
    messages = route.digests(held, now=now)
    for message, members in messages:
        if members:
            await store.fold(message, members)
        else:
            await store.release(message, now=now)
    return len(messages)


@dataclass(kw_only=True)
class Lane:
    """One sink's deliveries: ``run`` makes attempts as they become due, ``attempt_all`` each due one once."""

    sink: Sink
    store: Store
    clock: Clock
    policy: RetryPolicy
    #: What is said of an event that the sink took.
    success: str = "delivered"
    #: Why the sink is switched off; "" while it is not.
    disabled: str = ""
    #: Failed attempts since the start, and what the last of them said.
    failures: int = 0
    last_error: str = ""
    _failures_in_a_row: int = 0
    _has_recovered: bool = False
    _is_ready: bool = False
    _is_being_disabled: bool = False
    _rest_until: float = float("-inf")
    _next_slot_at: float = float("-inf")
    _busy: set[str] = field(default_factory=set)
    _is_stopping: bool = False
    _patience_s: float = float("inf")
    _bell: Bell = field(default_factory=Bell)
    _edges: Edges = field(default_factory=lambda: Edges(log))

    @property
    def name(self) -> str:
        """The sink's name."""
        return self.sink.name

    def ring(self) -> None:
        """Look at once whether something is due."""
        self._bell.ring()

    def recover(self) -> None:
        """Try at once all that waits: the sink says of itself that it can deliver again."""
        self._failures_in_a_row = 0
        self._rest_until = float("-inf")
        self._has_recovered = self._is_ready = True
        self._bell.ring()

    def stop(self) -> None:
        """Begin no further attempt; ``run`` returns when those under way have ended."""
        self._is_stopping = True
        self._bell.ring()

    # --- the loop -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Attempt deliveries as they become due, until ``stop`` is called."""
        async with anyio.create_task_group() as attempts:
            while not self._is_stopping:
                try:
                    started = await self._start_due(attempts)
                    nap = 0.0 if started else await self._nap()
                except StoreUnavailable as error:
                    self._edges.failed("store", "store unavailable", error=str(error), sink=self.name)
                    nap = _STORE_PAUSE.total_seconds()
                else:
                    self._edges.worked("store", "store available again", sink=self.name)
                await self._bell.wait(nap)

    async def _start_due(self, attempts: TaskGroup) -> int:
        """Start as many attempts as may be under way; return how many."""
        if self._is_being_disabled:
            return 0
        if self.disabled and not await self._is_switched_on_again():
            await self._bury()
            return 0
        if self._room <= 0 or self.clock.elapsed() < max(self._rest_until, self._next_slot_at):
            return 0
        await self._hasten_the_rest()
        started = 0
        for delivery in await self._next_due():
            if self._is_stopping:
                break
            self._busy.add(delivery.lane)
            self._take_slot()
            attempts.start_soon(self._attempt, delivery)
            started += 1
        return started

    async def _next_due(self) -> list[Delivery]:
        """Return what is to be attempted now: while the sink fails, rather what waits than what is new."""
        if self._failures_in_a_row:
            waiting = await self.store.due(self.name, now=self.clock.now(), most=1, busy=self._busy, only_tried=True)
            if waiting:
                return waiting
        now = self.clock.now()
        return await self._merge_due(now) or await self.store.due(
            self.name, now=now, most=1 if self.sink.spacing else self._room, busy=self._busy
        )

    async def _merge_due(self, now: datetime) -> list[Delivery]:
        """Let a digest tell what is due, if the sink wants that many events told as one."""
        most = self.sink.most_at_once
        if most is None or self._busy:
            return []
        waiting = await self.store.mergeable(self.name, now=now, most=LARGEST_DIGEST)
        members = route.largest_group(waiting)
        if len(members) <= most:
            return []
        whole = route.merged(members, now=now)
        await self.store.fold(whole, members)
        log.info("told as one", sink=self.name, events=len(members), event_id=whole.event.id)
        return [whole]

    def _take_slot(self) -> None:
        self._next_slot_at = self.clock.elapsed() + self.sink.spacing.total_seconds()

    @property
    def _room(self) -> int:
        """Return how many further attempts may be started: while the sink fails, one at a time."""
        return (1 if self._failures_in_a_row else self.sink.parallel) - len(self._busy)

    async def _nap(self) -> float:
        """Return for how many seconds nothing can be started, unless the bell rings."""
        rest = max(self._rest_until, self._next_slot_at) - self.clock.elapsed()
        if rest > 0:
            return min(rest, _LONGEST_NAP_S)
        due_at = await self.store.next_due(self.name, busy=self._busy) if self._room > 0 else None
        if due_at is None:
            return _LONGEST_NAP_S
        return min(max((due_at - self.clock.now()).total_seconds(), _SHORTEST_NAP_S), _LONGEST_NAP_S)

    async def attempt_all(self) -> None:
        """Attempt every due delivery once; behind one that fails, those of the same ticket keep waiting.

        Raises ``StoreUnavailable`` when what came of an attempt cannot be written down.
        """
        self._patience_s = _ROUND_PATIENCE_S
        if self.disabled:
            await self._bury()
            return
        # One instant for all: what fails is due later than that, and so not found again.
        now = self.clock.now()
        while found := await self._due_in_round(now):
            async with anyio.create_task_group() as attempts:
                for delivery in found:
                    attempts.start_soon(self._attempt, delivery)
        await self._hasten_the_rest()

    async def _due_in_round(self, now: datetime) -> list[Delivery]:
        most = 1 if self.sink.spacing else self.sink.parallel
        found = await self._merge_due(now) or await self.store.due(self.name, now=now, most=most)
        if found:
            wait = self._next_slot_at - self.clock.elapsed()
            if wait > 0:
                await self.clock.sleep(timedelta(seconds=wait))
            self._take_slot()
        return found

    async def attempt_only(self, delivery: Delivery) -> None:
        """Attempt this one delivery, whatever else waits."""
        self._patience_s = _ROUND_PATIENCE_S
        await self._attempt(delivery)

    async def _hasten_the_rest(self) -> None:
        """After a sink has recovered, let all that waits for another attempt wait no longer."""
        if self._has_recovered:
            await self.store.hasten(self.name, now=self.clock.now(), every_receiver=self._is_ready)
            self._has_recovered = self._is_ready = False

    # --- one attempt --------------------------------------------------------------------------------------

    async def _attempt(self, delivery: Delivery) -> None:
        """Hand one event to the sink and write down what came of it."""
        failures_before = self._failures_in_a_row
        try:
            error = await self._send(delivery)
            if isinstance(error, SinkPartly):
                await self._split(delivery, error)
                await self._draw_conclusions(delivery, Delivered(self.clock.now()), None, failures_before)
                return
            verdict = retry.judge(delivery, error, now=self.clock.now(), policy=self.policy)
            await self._write_down(lambda: self.store.settle(delivery, verdict))
            await self._draw_conclusions(delivery, verdict, error, failures_before)
        finally:
            self._busy.discard(delivery.lane)
            self._bell.ring()

    async def _split(self, delivery: Delivery, error: SinkPartly) -> None:
        """Write down who has the event; whoever lacks it gets a delivery of their own."""
        now = self.clock.now()
        left = {
            receiver: retry.judge(delivery, each, now=now, policy=self.policy) for receiver, each in error.left.items()
        }
        await self._write_down(lambda: self.store.settle_parts(delivery, at=now, left=left))
        for receiver, verdict in left.items():
            self._say_what_is_left(replace(delivery, receiver=receiver), verdict)

    def _say_what_is_left(self, delivery: Delivery, verdict: Verdict) -> None:
        facts = {"sink": self.name, "receiver": delivery.receiver, "ticket": delivery.event.ticket.id}
        match verdict:
            case Retry(due_at, error):
                next_try = f"{due_at.astimezone():%H:%M:%S}"
                log.warning("delivery postponed", error=error, **facts, event_id=delivery.event.id, next_try=next_try)
            case Dead(_, error):
                again = f"watcher replay {delivery.event.id} --sink {self.name}"
                log.error("delivery given up", error=error, **facts, event_id=delivery.event.id, next=again)
            case Delivered():
                log.info(self.success, **facts, event_id=delivery.event.id, attempt=delivery.attempts + 1)
        if not isinstance(verdict, Delivered):
            self.failures += 1
            self.last_error = f"{delivery.receiver}: {verdict.error}"

    async def _send(self, delivery: Delivery) -> TransientError | PermanentError | SinkPartly | None:
        try:
            await self.sink.send(delivery, now=self.clock.now())
        except (TransientError, PermanentError, SinkPartly) as error:
            return error
        except Exception as error:  # a sink's mistake must not end the daemon; the only such place
            log.error(  # noqa: TRY400 - no traceback at the default level
                "sink failed",
                sink=self.name,
                event_id=delivery.event.id,
                # Not its words: they are nobody's, and may hold an address or a key.
                error=f"{type(error).__name__} at {_place(error)}",
                next="this is a mistake in watcher; the delivery is tried again",
            )
            log.debug("sink failed", sink=self.name, exc_info=error)
            return SinkUnavailable(f"unexpected {type(error).__name__}")
        return None

    async def _write_down(self, write: Callable[[], Awaitable[None]]) -> None:
        """Do a write; while the store takes nothing, nothing further is sent in this place.

        A write that was begun is ended even while we are being stopped: the receiver has the event or has
        refused it.
        """
        give_up_at = self.clock.elapsed() + self._patience_s
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    await write()
            except StoreUnavailable as error:
                if self.clock.elapsed() >= give_up_at:
                    raise
                self._edges.failed(
                    "outcome",
                    "store unavailable",
                    error=str(error),
                    sink=self.name,
                    next="a delivery may be repeated under the same id",
                )
                await self.clock.sleep(_STORE_PAUSE)
            else:
                self._edges.worked("outcome", "store available again", sink=self.name)
                return

    async def _draw_conclusions(
        self,
        delivery: Delivery,
        verdict: Verdict,
        error: TransientError | PermanentError | None,
        failures_before: int,
    ) -> None:
        if delivery.receiver:
            # That one receiver fails says nothing of the sink.
            self._say_what_is_left(delivery, verdict)
            return
        facts = {"sink": self.name, "ticket": delivery.event.ticket.id, "event_id": delivery.event.id}
        match verdict:
            case Delivered():
                log.info(self.success, **facts, attempt=delivery.attempts + 1)
                if self._failures_in_a_row:
                    self._failures_in_a_row = 0
                    self._rest_until = float("-inf")
                    self._has_recovered = True
                    self._edges.worked("sink", "sink works again", sink=self.name)
                return
            case Retry(due_at):
                self._edges.failed(
                    "sink",
                    "delivery postponed",
                    error=verdict.error,
                    **facts,
                    next_try=f"{due_at.astimezone():%H:%M:%S}",
                )
            case Dead():
                log.error(
                    "delivery given up",
                    error=verdict.error,
                    **facts,
                    next=f"watcher replay {delivery.event.id}",
                )
        self.failures += 1
        self.last_error = verdict.error
        if isinstance(error, TransientError):
            # Attempts that were under way side by side failed once, not one after the other.
            self._failures_in_a_row = max(self._failures_in_a_row, failures_before + 1)
            wait = verdict.due_at - self.clock.now() if isinstance(verdict, Retry) else None
            rest = retry.rest(self._failures_in_a_row, error, wait=wait)
            self._rest_until = max(self._rest_until, self.clock.elapsed() + rest.total_seconds())
        if isinstance(error, SinkGone):
            await self._disable(str(error))

    # --- a sink that is switched off ----------------------------------------------------------------------

    async def _disable(self, reason: str) -> None:
        self._is_being_disabled = True
        now = self.clock.now()
        await self._write_down(lambda: self.store.disable(self.name, target=self.sink.target, reason=reason, now=now))
        self.disabled = f"the sink is switched off: {reason}"
        self._is_being_disabled = False
        log.error(
            "sink switched off",
            sink=self.name,
            error=reason,
            next="change its address in the configuration, or `watcher replay` an event to try it again",
        )
        await self._write_down(self._bury)

    async def _is_switched_on_again(self) -> bool:
        """Notice that somebody wants the sink to be tried again (`watcher replay` in another process)."""
        if self.name in await self.store.disabled():
            return False
        self.disabled = ""
        return True

    async def _bury(self) -> None:
        buried = await self.store.bury(self.name, reason=self.disabled, only_if_disabled=True)
        if buried:
            self.failures += buried
            self.last_error = self.disabled
            log.warning("deliveries given up", sink=self.name, count=buried, error=self.disabled)


def _place(error: BaseException) -> str:
    """Return where an exception arose, as ``file:line``."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
