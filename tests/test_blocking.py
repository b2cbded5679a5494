"""Calls that may block for ever."""

import threading
from datetime import timedelta

import anyio
import pytest

from tests.fakes import until
from watcher.blocking import Busy, OneAtATime, in_own_thread

PATIENT, HASTY = timedelta(seconds=30), timedelta(milliseconds=50)


class Surprise(BaseException):
    """Nothing that anybody expects."""


def fail() -> None:
    raise Surprise


async def test_what_the_function_returns_is_returned() -> None:
    assert await in_own_thread(PATIENT, lambda: "done") == "done"


@pytest.mark.parametrize("call", [in_own_thread, OneAtATime().run])
async def test_whatever_the_function_raises_is_raised_at_once(call: object) -> None:
    with anyio.fail_after(10), pytest.raises(Surprise):
        await call(PATIENT, fail)  # type: ignore[operator]


async def test_while_a_call_that_was_given_up_is_still_at_it_no_other_begins() -> None:
    calls, released = OneAtATime(), threading.Event()
    with pytest.raises(TimeoutError):
        await calls.run(HASTY, released.wait)
    with pytest.raises(Busy):
        await calls.run(PATIENT, lambda: None)
    released.set()
    await until(lambda: not calls.is_busy)
    assert await calls.run(PATIENT, lambda: "done") == "done"


async def test_after_a_failure_the_next_call_may_begin() -> None:
    calls = OneAtATime()
    with pytest.raises(Surprise):
        await calls.run(PATIENT, fail)
    assert await calls.run(PATIENT, lambda: "done") == "done"


async def test_where_there_was_no_thread_to_be_had_the_next_call_may_begin() -> None:
    calls = OneAtATime()
    before = threading.stack_size()
    threading.stack_size(1 << 46)
    try:
        with pytest.raises((RuntimeError, MemoryError)):
            await calls.run(PATIENT, lambda: "never")
    finally:
        threading.stack_size(before)
    assert await calls.run(PATIENT, lambda: "done") == "done"
