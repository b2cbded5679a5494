"""The same suite for every type of sink: what the lanes rely on, whoever is told."""

import importlib
import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import get_args

import anyio
import pytest
from structlog.testing import capture_logs

import tests.benches
from tests.benches import Bench
from tests.fakes import delivery, event
from watcher.config.sinks import Sink as AnySinkModel
from watcher.detect import digest
from watcher.errors import PermanentError, SinkRejected, SinkUnavailable, TransientError
from watcher.model import Event, Kind
from watcher.sample import example

TYPES = sorted(module.name for module in pkgutil.iter_modules(tests.benches.__path__))
#: Long enough for whoever answers, short for whoever does not.
PATIENT, HASTY = timedelta(seconds=30), timedelta(seconds=0.5)


@asynccontextmanager
async def bench_of(kind: str, *, time_limit: timedelta = PATIENT) -> AsyncIterator[Bench]:
    module = importlib.import_module(f"tests.benches.{kind}")
    async with module.open_bench(timeout=time_limit) as bench:
        yield bench


def now() -> datetime:
    return datetime.now(UTC)


def test_every_type_of_sink_has_a_bench() -> None:
    members = get_args(get_args(AnySinkModel)[0])
    assert [get_args(member.model_fields["type"].annotation)[0] for member in members] != []
    assert {get_args(member.model_fields["type"].annotation)[0] for member in members} == set(TYPES)


@pytest.mark.parametrize("kind", TYPES)
class TestContract:
    async def test_delivers(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            await bench.sink.send(delivery(event()), now=now())
            assert len(bench.received()) == 1

    @pytest.mark.parametrize("told", [example(each) for each in Kind], ids=list(Kind))
    async def test_tells_every_kind_of_event(self, kind: str, told: Event) -> None:
        async with bench_of(kind) as bench:
            await bench.sink.send(delivery(told), now=now())
            assert len(bench.received()) == 1

    async def test_a_repeat_is_recognised(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            at = now()
            await bench.sink.send(delivery(event()), now=at)
            await bench.sink.send(delivery(event(), attempts=1), now=at)
            first, second = bench.received()
            assert first == second

    async def test_two_events_are_told_apart(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            at = now()
            await bench.sink.send(delivery(event(1)), now=at)
            await bench.sink.send(delivery(example(Kind.REPLY)), now=at)
            first, second = bench.received()
            assert first != second

    async def test_a_receiver_that_the_sink_does_not_have_is_refused(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            with pytest.raises(SinkRejected, match="is no longer among the receivers"):
                await bench.sink.send(delivery(event(), receiver="nobody@else.example"), now=now())
            assert bench.received() == []

    async def test_a_digest_of_many_is_told(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            many = digest([event(n) for n in range(1, 21)], sink="hub", now=now())
            await bench.sink.send(delivery(many), now=now())
            assert len(bench.received()) == 1

    async def test_what_may_pass_is_transient_and_the_next_attempt_succeeds(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            bench.fails()
            with pytest.raises(SinkUnavailable):
                await bench.sink.send(delivery(event()), now=now())
            await bench.sink.send(delivery(event(), attempts=1), now=now())
            assert len(bench.received()) == 1

    async def test_what_is_refused_for_good_is_permanent(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            if bench.refuses is None:
                pytest.skip("there is nothing that it refuses for good")
            bench.refuses()
            with pytest.raises(SinkRejected):
                await bench.sink.send(delivery(event()), now=now())

    async def test_a_receiver_without_an_answer_costs_no_more_than_the_time_limit(self, kind: str) -> None:
        async with bench_of(kind, time_limit=HASTY) as bench:
            bench.hangs()
            # Far more than the limit, on a machine that is slow; far less than the usual one.
            with anyio.fail_after(20), pytest.raises(SinkUnavailable):
                await bench.sink.send(delivery(event()), now=now())

    async def test_an_attempt_can_be_cancelled(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            bench.hangs()
            with anyio.fail_after(PATIENT.total_seconds() / 2), anyio.move_on_after(0.1) as scope:
                await bench.sink.send(delivery(event()), now=now())
            assert scope.cancelled_caught

    async def test_no_secret_is_said_in_errors_logs_or_reprs(self, kind: str) -> None:
        async with bench_of(kind, time_limit=HASTY) as bench:
            said = [repr(bench.sink), str(bench.sink), bench.sink.target, bench.sink.name]
            said.append(bench.sink.preview(event(), now=now()))
            with capture_logs() as logs:
                for breaks in (bench.fails, bench.refuses, bench.hangs):
                    if breaks is None:
                        continue
                    breaks()
                    try:
                        await bench.sink.send(delivery(event()), now=now())
                    except (TransientError, PermanentError) as error:
                        said += [str(error), repr(error)]
            said.append(repr(logs))
            assert [secret for secret in bench.secrets for text in said if secret in text] == []

    async def test_a_preview_shows_the_message_and_sends_nothing(self, kind: str) -> None:
        async with bench_of(kind) as bench:
            for each in Kind:
                assert bench.sink.preview(example(each), now=now()).strip()
            assert "Why ECS renewal failed?" in bench.sink.preview(example(Kind.REPLY), now=now())
            assert bench.received() == []
