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
    """Return what the function returns, or raise ``TimeoutError``; then it may still be at it.

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
        except (OSError, ValueError) as error:
            failure = error
            settle(lambda: outcome.set_exception(failure))
        else:
            settle(lambda: outcome.set_result(result))

    threading.Thread(target=run, name=f"watcher {function.__name__}", daemon=True).start()
    with anyio.fail_after(time_limit.total_seconds()):
        return await outcome
