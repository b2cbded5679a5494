"""What follows an attempt."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON, delivery, event
from watcher.errors import PermanentError, SinkGone, SinkRejected, SinkUnavailable, TransientError
from watcher.model import Dead, Delivered, Retry
from watcher.retry import DEFAULT_SCHEDULE, LONGEST_RETRY_AFTER, RetryPolicy, judge, rest

POLICY = RetryPolicy()
JITTER = 1.1


def wait_after(attempts: int, error: TransientError, *, sink: str = "hub", number: int = 1) -> timedelta:
    verdict = judge(delivery(event(number), sink=sink, attempts=attempts), error, now=NOON, policy=POLICY)
    assert isinstance(verdict, Retry)
    assert verdict.error == str(error)
    return verdict.due_at - NOON


def test_the_default_schedule_is_the_specifications() -> None:
    assert len(DEFAULT_SCHEDULE) + 1 == 10
    assert sum(DEFAULT_SCHEDULE, timedelta()) == timedelta(hours=75, minutes=35, seconds=5)
    assert list(DEFAULT_SCHEDULE) == sorted(DEFAULT_SCHEDULE)


def test_success_is_delivered_at_once() -> None:
    assert judge(delivery(attempts=7), None, now=NOON, policy=POLICY) == Delivered(NOON)


@pytest.mark.parametrize("error", [PermanentError("no"), SinkRejected("no"), SinkGone("no")])
@pytest.mark.parametrize("attempts", [0, 5, 100])
def test_a_permanent_error_is_the_end(error: PermanentError, attempts: int) -> None:
    assert judge(delivery(attempts=attempts), error, now=NOON, policy=POLICY) == Dead(NOON, "no")


@pytest.mark.parametrize(("attempts", "span"), list(enumerate(DEFAULT_SCHEDULE)))
def test_a_passing_error_waits_as_the_schedule_says_and_a_little_more(attempts: int, span: timedelta) -> None:
    assert span <= wait_after(attempts, SinkUnavailable("busy")) <= span * JITTER


@pytest.mark.parametrize("attempts", [len(DEFAULT_SCHEDULE), len(DEFAULT_SCHEDULE) + 1, 1000])
def test_after_the_last_wait_it_is_given_up_with_its_reason(attempts: int) -> None:
    error = SinkUnavailable("busy", retry_after=timedelta(seconds=1))
    verdict = judge(delivery(attempts=attempts), error, now=NOON, policy=POLICY)
    assert verdict == Dead(NOON, f"busy; given up after {attempts + 1} attempts")


def test_an_attempt_before_its_time_takes_nothing_from_the_schedule() -> None:
    error = SinkUnavailable("busy")
    verdict = judge(delivery(attempts=3, hastened=2), error, now=NOON, policy=POLICY)
    assert isinstance(verdict, Retry)
    assert DEFAULT_SCHEDULE[1] <= verdict.due_at - NOON <= DEFAULT_SCHEDULE[1] * JITTER


def test_what_was_hastened_many_times_is_given_up_when_the_schedule_would_have_ended() -> None:
    error = SinkUnavailable("busy")
    often = delivery(attempts=50, hastened=49)
    whole = sum(DEFAULT_SCHEDULE, timedelta())
    assert isinstance(judge(often, error, now=NOON + whole, policy=POLICY), Retry)
    assert isinstance(judge(often, error, now=NOON + whole + timedelta(seconds=1), policy=POLICY), Dead)
    fresh = delivery(attempts=2, hastened=2)
    assert isinstance(judge(fresh, error, now=NOON + 2 * whole, policy=POLICY), Retry)


def test_an_empty_schedule_is_one_attempt() -> None:
    verdict = judge(delivery(), SinkUnavailable("busy"), now=NOON, policy=RetryPolicy(schedule=()))
    assert verdict == Dead(NOON, "busy; given up after 1 attempts")


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (None, timedelta(seconds=5), timedelta(seconds=5.5)),
        (timedelta(), timedelta(seconds=5), timedelta(seconds=5.5)),
        (timedelta(seconds=1), timedelta(seconds=5), timedelta(seconds=5.5)),
        (timedelta(hours=1), timedelta(hours=1), timedelta(hours=1)),
        (LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        (timedelta(days=400), LONGEST_RETRY_AFTER, LONGEST_RETRY_AFTER),
        (timedelta(seconds=-5), timedelta(seconds=5), timedelta(seconds=5.5)),
    ],
)
def test_a_longer_wait_that_the_receiver_names_is_kept(
    asked: timedelta | None, least: timedelta, most: timedelta
) -> None:
    assert least <= wait_after(0, SinkUnavailable("busy", retry_after=asked)) <= most


def test_the_jitter_is_foreseeable_and_differs_by_event_sink_and_attempt() -> None:
    error = SinkUnavailable("busy")
    assert wait_after(1, error) == wait_after(1, error)
    waits = [wait_after(1, error, sink=sink, number=number) for sink in ("a", "b") for number in range(20)]
    assert len(set(waits)) == len(waits)


@given(
    st.integers(0, 20),
    st.none() | st.timedeltas(timedelta(), timedelta(days=1000)),
    st.lists(st.timedeltas(timedelta(), timedelta(days=30)), max_size=12),
)
def test_a_verdict_is_a_retry_within_bounds_or_the_end(
    attempts: int, asked: timedelta | None, schedule: list[timedelta]
) -> None:
    error = SinkUnavailable("busy", retry_after=asked)
    verdict = judge(delivery(attempts=attempts), error, now=NOON, policy=RetryPolicy(schedule=schedule))
    assert isinstance(verdict, Retry) is (attempts < len(schedule))
    if isinstance(verdict, Retry):
        wait = verdict.due_at - NOON
        assert schedule[attempts] <= wait <= max(schedule[attempts] * JITTER, LONGEST_RETRY_AFTER)
        assert wait >= min(asked or timedelta(), LONGEST_RETRY_AFTER)


@pytest.mark.parametrize(
    ("failures", "asked", "seconds"),
    [
        (-1, None, 0),
        (0, 30, 0),
        (1, None, 1),
        (2, None, 2),
        (3, None, 4),
        (6, None, 32),
        (7, None, 60),
        (10_000, None, 60),
        (1, 30, 30),
        (7, 30, 60),
        (1, 10**7, 86400),
    ],
)
def test_a_failing_sink_rests_ever_longer_but_never_long(failures: int, asked: int | None, seconds: int) -> None:
    error = SinkUnavailable("busy", retry_after=None if asked is None else timedelta(seconds=asked))
    assert rest(failures, error) == timedelta(seconds=seconds)


def test_a_sink_rests_no_longer_than_its_delivery_waits() -> None:
    error = SinkUnavailable("busy")
    assert rest(7, error, wait=timedelta(seconds=1)) == timedelta(seconds=1)
    assert rest(7, error, wait=timedelta(hours=1)) == timedelta(seconds=60)
    asked = SinkUnavailable("busy", retry_after=timedelta(seconds=30))
    assert rest(1, asked, wait=timedelta(seconds=1)) == timedelta(seconds=30)
