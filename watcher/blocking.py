"""Calls that may block for ever, in threads that the process does not wait for when it ends."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import ParamSpec, TypeVar

import anyio

Params = ParamSpec("Params")
Result = TypeVar("Result")


async def in_own_thread(
    time_limit: timedelta, function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
) -> Result:
    """Return what the function returns or raise what it raises; or raise ``TimeoutError``: it may still be at it.

    ``anyio.to_thread`` will not do: the interpreter waits for its threads, so that a write into a pipe that nobody
    reads would keep a stopped daemon from ending.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Result] = loop.create_future()

    def settle(setter: Callable[[], None]) -> None:
        # The loop may be closed, and the caller gone.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if outcome.done() else setter())

    def run() -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whoever waits hears of it
            failure = error
            settle(lambda: outcome.set_exception(failure))
        else:
            settle(lambda: outcome.set_result(result))

    threading.Thread(target=run, name="watcher, blocking", daemon=True).start()
    with anyio.fail_after(time_limit.total_seconds()):
        return await outcome


class Busy(Exception):
    """A call that was given up has not come to its end."""


class OneAtATime:
    """Calls that may block for ever, one at a time: what hangs leaves one thread behind, not one for each attempt."""

    def __init__(self) -> None:
        #: True while a call is at it, also one that nobody waits for any more.
        self.is_busy = False

    async def run(
        self, time_limit: timedelta, function: Callable[Params, Result], *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """As ``in_own_thread``, but raise ``Busy`` while an earlier call is still at it."""
        if self.is_busy:
            raise Busy
        has_started = False

        def call() -> Result:
            nonlocal has_started
            has_started = True
            try:
                return function(*args, **kwargs)
            finally:
                self.is_busy = False

        self.is_busy = True
        try:
            return await in_own_thread(time_limit, call)
        except RuntimeError:
            # There may have been no thread to be had.
            self.is_busy = self.is_busy and has_started
            raise
