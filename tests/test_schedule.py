"""How fast an account is asked, and when a ticket is due."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from watcher.schedule import (
    IDLE_AFTER,
    Agenda,
    Cadence,
    Pace,
    after_failure,
    after_look,
    after_refusal,
    spend,
    succeeded,
    throttled,
)

SLACK = 1e-6


def starts(pace: Pace, asked: list[float]) -> list[float]:
    """Return when the calls start that are asked for at these times."""
    result = []
    for now in asked:
        pace, wait = spend(pace, now=now)
        assert wait >= 0
        result.append(now + wait)
    return result


def most_in_excess(times: list[float], rate: float) -> float:
    """Return how many calls more than ``rate`` allows start in any window."""
    times = sorted(times)
    return max(
        (last - first + 1 - rate * (times[last] - times[first]))
        for first in range(len(times))
        for last in range(first, len(times))
    )


# --- how fast ---------------------------------------------------------------------------------------------


def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    pace = Pace(rate=2.0, is_learnt=False)
    assert starts(pace, [0.0] * 8) == [0, 0, 0, 0, 0, 0.5, 1.0, 1.5]


def test_unspent_calls_are_kept_up_to_the_burst() -> None:
    pace = Pace(rate=10.0, is_learnt=False, allowance=0.0)
    assert pace.burst == 20
    assert starts(pace, [1000.0] * 22)[19:] == [1000.0, 1000.1, 1000.2]


gaps = st.lists(st.floats(0, 20), min_size=1, max_size=40)
rates = st.floats(0.1, 50)


def times_of(gaps: list[float]) -> list[float]:
    times, now = [], 0.0
    for gap in gaps:
        # Half of the callers come at the same moment as the one before.
        now += gap if gap > 10 else 0.0
        times.append(now)
    return times


@given(rates, gaps)
def test_no_window_holds_more_than_the_rate_and_one_burst(rate: float, gaps: list[float]) -> None:
    pace = Pace(rate=rate, is_learnt=False)
    assert most_in_excess(starts(pace, times_of(gaps)), rate) <= pace.burst + SLACK


@given(rates, gaps, st.floats(0, 300))
def test_a_pause_saves_up_nothing_and_lets_nothing_through(rate: float, gaps: list[float], pause: float) -> None:
    paused = throttled(Pace(rate=rate, is_learnt=False), now=0.0, retry_after=timedelta(seconds=pause + 1))
    begun = starts(paused, times_of(gaps))
    assert min(begun) >= paused.paused_until - SLACK
    assert paused.paused_until == pytest.approx(pause + 1)
    in_pause = [start for start, now in zip(begun, times_of(gaps), strict=True) if now < paused.paused_until]
    if in_pause:
        assert most_in_excess(in_pause, rate) <= 1 + SLACK


@given(rates, gaps)
def test_whoever_waits_alone_waits_no_longer_than_the_rate_asks(rate: float, gaps: list[float]) -> None:
    pace, now = Pace(rate=rate, is_learnt=False), 0.0
    for gap in gaps:
        now += gap
        pace, wait = spend(pace, now=now)
        assert wait <= 1 / rate + SLACK
        now += wait


def test_a_clock_that_stands_still_or_goes_back_gives_nothing_away() -> None:
    pace = Pace(rate=1.0, is_learnt=False, at=100.0)
    assert starts(pace, [100.0] * 5 + [50.0])[-1] >= 100.0


def test_a_learnt_pace_doubles_each_second_until_its_ceiling() -> None:
    pace, rates_seen = Pace(), []
    for _ in range(4):
        for _ in range(round(pace.rate)):
            pace = succeeded(pace)
        rates_seen.append(pace.rate)
    assert rates_seen == [2, 4, 8, 10]
    assert succeeded(pace) is pace


def test_a_configured_pace_is_kept_through_success_and_throttling() -> None:
    pace = Pace(rate=3.0, is_learnt=False)
    assert succeeded(pace).rate == 3.0
    assert throttled(pace, now=5.0, retry_after=None).rate == 3.0


@pytest.mark.parametrize(("retry_after", "until"), [(None, 15.0), (1.5, 11.5), (300.0, 310.0)])
def test_throttling_pauses_the_account_and_halves_its_pace(retry_after: float | None, until: float) -> None:
    span = None if retry_after is None else timedelta(seconds=retry_after)
    pace = throttled(Pace(rate=8.0), now=10.0, retry_after=span)
    assert (pace.rate, pace.paused_until, pace.was_throttled) == (4.0, until, True)
    assert starts(pace, [10.0, 10.0, 10.0]) == [until, until + 0.25, until + 0.5]


def test_calls_that_were_under_way_when_the_pause_began_do_not_halve_again() -> None:
    pace = throttled(Pace(rate=8.0), now=10.0, retry_after=None)
    again = throttled(pace, now=11.0, retry_after=timedelta(seconds=10))
    assert (again.rate, again.paused_until) == (4.0, 21.0)
    shorter = throttled(again, now=12.0, retry_after=timedelta(seconds=1))
    assert shorter.paused_until == 21.0
    assert throttled(shorter, now=22.0, retry_after=None).rate == 2.0


def test_calls_spent_in_advance_stay_spent_through_a_pause() -> None:
    pace = Pace(rate=1.0, is_learnt=False)
    for _ in range(15):
        pace, _ = spend(pace, now=0.0)
    pace = throttled(pace, now=0.0, retry_after=timedelta(seconds=5))
    assert starts(pace, [0.0]) == [5.0 + 11.0]


def test_a_pace_never_falls_below_one_call_in_ten_seconds() -> None:
    pace = Pace()
    for hour in range(20):
        pace = throttled(pace, now=hour * 3600.0, retry_after=None)
    assert pace.rate == 0.1


def test_after_throttling_a_pace_recovers_slowly_but_to_the_top() -> None:
    pace = throttled(Pace(rate=10.0), now=0.0, retry_after=None)
    # One second's worth of calls adds two hundredths of a call a second.
    for _ in range(5):
        pace = succeeded(pace)
    assert pace.rate == pytest.approx(5.02, abs=0.001)
    for _ in range(10_000):
        pace = succeeded(pace)
    assert pace.rate == 10.0


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=60))
def test_whatever_happens_a_learnt_pace_stays_between_its_bounds(history: list[tuple[float, bool]]) -> None:
    pace, now = Pace(), 0.0
    for gap, is_throttled in history:
        now += gap
        pace = throttled(pace, now=now, retry_after=None) if is_throttled else succeeded(pace)
        assert 0.1 <= pace.rate <= 10.0
        assert pace.allowance <= pace.burst


# --- when -------------------------------------------------------------------------------------------------

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("idle_interval", "age", "is_open", "seconds"),
    [
        (None, None, True, 60),
        (None, 2 * DAY, True, 60),
        (HOUR, None, True, 60),
        (HOUR, HOUR, True, 60),
        (HOUR, IDLE_AFTER, True, 60),
        (HOUR, IDLE_AFTER + timedelta(seconds=1), True, 3600),
        (HOUR, -DAY, True, 60),
        (timedelta(seconds=5), 2 * DAY, True, 60),
        (None, None, False, 600),
        (HOUR, HOUR, False, 600),
        (HOUR, 2 * DAY, False, 3600),
        (5 * timedelta(minutes=1), 2 * DAY, False, 600),
    ],
)
def test_idle_and_closed_tickets_are_asked_less_often(
    idle_interval: timedelta | None, age: timedelta | None, is_open: bool, seconds: float
) -> None:
    cadence = Cadence(idle_interval=idle_interval, jitter=0.0)
    assert after_look(cadence, key="T", n=1, last_note_age=age, is_open=is_open) == seconds


@given(st.text(), st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 86400))
def test_the_jitter_of_a_look_stays_within_its_share(key: str, n: int, jitter: float, seconds: int) -> None:
    cadence = Cadence(interval=timedelta(seconds=seconds), jitter=jitter)
    wait = after_look(cadence, key=key, n=n, last_note_age=None, is_open=True)
    assert seconds * (1 - jitter) - SLACK <= wait <= seconds * (1 + jitter) + SLACK


def test_the_jitter_spreads_tickets_and_looks() -> None:
    waits = [
        after_look(Cadence(), key=f"T{ticket}", n=n, last_note_age=None, is_open=True)
        for ticket in range(100)
        for n in range(10)
    ]
    assert len(set(waits)) == len(waits)
    assert min(waits) < 55
    assert max(waits) > 65
    assert 59 < sum(waits) / len(waits) < 61


@pytest.mark.parametrize(
    ("interval", "failures", "ceiling"),
    [
        (60, 1, 2),
        (60, 2, 4),
        (60, 5, 32),
        (60, 8, 256),
        (60, 9, 300),
        (60, 10_000, 300),
        (3600, 10_000, 300),
        (10, 10_000, 50),
        (0.1, 10_000, 2),
    ],
)
def test_failures_back_off_doubling_to_a_ceiling(interval: float, failures: int, ceiling: float) -> None:
    cadence = Cadence(interval=timedelta(seconds=interval))
    waits = [after_failure(cadence, key=f"T{number}", failures=failures) for number in range(200)]
    assert ceiling / 2 <= min(waits) < ceiling * 0.55
    assert ceiling * 0.95 < max(waits) <= ceiling
    assert len(set(waits)) == len(waits)


@pytest.mark.parametrize(("seconds", "wait"), [(1, 600), (600, 600), (3600, 3600)])
def test_a_refused_ticket_is_tried_rarely(seconds: int, wait: float) -> None:
    assert after_refusal(Cadence(interval=timedelta(seconds=seconds))) == wait


# --- the agenda -------------------------------------------------------------------------------------------


def test_an_empty_agenda_has_nothing_due() -> None:
    agenda = Agenda()
    assert (agenda.next_due(), agenda.take(1e9)) == (None, None)


def test_entries_come_out_by_time_and_equal_ones_in_the_order_of_their_coming() -> None:
    agenda = Agenda()
    for key, due in [("c", 2.0), ("a", 1.0), ("b", 1.0)]:
        agenda.put(key, due)
    assert [agenda.take(2.0) for _ in range(4)] == ["a", "b", "c", None]


def test_nothing_comes_out_before_its_time() -> None:
    agenda = Agenda()
    agenda.put("a", 2.0)
    assert (agenda.take(1.999), agenda.take(2.0)) == (None, "a")


KEYS = st.sampled_from("abcde")
TIMES = st.integers(0, 10).map(float)


class AgendaMachine(RuleBasedStateMachine):
    """The agenda against a dictionary that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.agenda = Agenda()
        self.model: dict[str, float] = {}

    @rule(key=KEYS, due=TIMES)
    def put(self, key: str, due: float) -> None:
        self.agenda.put(key, due)
        self.model.pop(key, None)
        self.model[key] = due

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        self.agenda.drop(key)
        self.model.pop(key, None)

    @rule(now=TIMES)
    def take(self, now: float) -> None:
        due = [key for key, at in self.model.items() if at <= now]
        # `min` keeps the first of equals, and a dictionary the order of coming.
        expected = min(due, key=self.model.__getitem__, default=None)
        assert self.agenda.take(now) == expected
        if expected:
            del self.model[expected]

    @invariant()
    def the_first_is_the_same(self) -> None:
        assert self.agenda.next_due() == min(self.model.values(), default=None)


TestAgenda = AgendaMachine.TestCase
