"""Which tickets a watch finds, and what it keeps when the list fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes import NOON, FakeApi, FakeClock, account, at, note, rule, ticket, until
from watcher.discover import Discovery
from watcher.errors import ApiDenied, ApiThrottled, ApiUnavailable, CredentialsRejected
from watcher.model import Ticket, TicketPage, TicketStatus
from watcher.pacer import Pacer
from watcher.poll import Poller
from watcher.route import Routing
from watcher.schedule import Cadence, Pace
from watcher.store import TicketRow, open_store

OPEN = frozenset(status for status in TicketStatus if status.is_open and status is not TicketStatus.UNKNOWN)


class FakeList(FakeApi):
    """A Ticket API of a reseller: each customer has tickets of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[str, list[Ticket]] = {}
        self.since: list[datetime | None] = []
        self.clock = FakeClock()
        self.asked_at: list[float] = []
        self.page_size = 100
        self.tells_total = True

    async def list_tickets(self, page: int, *, uid: str = "", created_after: datetime | None = None) -> TicketPage:
        await anyio.lowlevel.checkpoint()
        self.asked_at.append(self.clock.elapsed())
        self._serve(f"list {uid}".strip(), "", uid)
        self.since.append(created_after)
        tickets = self.lists.get(uid, [])
        start = (page - 1) * self.page_size
        return TicketPage(tuple(tickets[start : start + self.page_size]), len(tickets) if self.tells_total else None)


@asynccontextmanager
async def discovery(folder: Path, *uids: str, **more: Any) -> AsyncIterator[tuple[Discovery, FakeList]]:
    api = FakeList()
    clock = api.clock
    async with open_store(folder / "watcher.db") as store:
        pacer = Pacer(clock, Pace(rate=1000.0, is_learnt=False, allowance=1000.0))
        poller = Poller(
            account="prod",
            api=api,
            store=store,
            clock=clock,
            pacer=pacer,
            routing=Routing(sinks=("hub",)),
            on_recorded=lambda *, is_any_held: None,  # noqa: ARG005
            uids=uids,
        )
        values: dict[str, Any] = {"poller": poller, "api": api, "clock": clock, "account": account()}
        values |= {"uids": uids or ("",), "rule": rule(), "cadence": Cadence(), "statuses": OPEN}
        values |= {"created_within": timedelta(days=90), "every": timedelta(minutes=5)}
        yield Discovery(**(values | more)), api


def watched(found: Discovery) -> list[str]:
    return sorted(found.poller.watched)


def of(number: str, status: TicketStatus = TicketStatus.DEALING) -> Ticket:
    return ticket(number, status=status, status_code="9")


def row(number: str, *, status: str = "dealing", last_note: float | None = None, **more: Any) -> TicketRow:
    values: dict[str, Any] = {"account": "prod", "ticket": number, "uid": "", "watch": "production", "title": "T"}
    values |= {"unread": 0, "notes": 1, "last_poll_at": None, "error": None, "status": status}
    return TicketRow(**(values | {"last_note_at": None if last_note is None else at(last_note)} | more))


@pytest.mark.parametrize("status", TicketStatus)
async def test_a_ticket_is_watched_unless_its_status_is_one_that_is_not_wanted(
    tmp_path: Path, status: TicketStatus
) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [of("A", status)]
        await found.look()
        # A status that is not published may mean anything.
        assert watched(found) == ([] if status is TicketStatus.CONFIRMED else ["A"])


async def test_the_list_is_asked_for_tickets_of_the_configured_age(tmp_path: Path) -> None:
    async with discovery(tmp_path, created_within=timedelta(days=7)) as (found, api):
        await found.look()
        assert api.since == [NOON - timedelta(days=7)]


async def test_a_ticket_that_leaves_the_list_is_watched_on(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [of("A"), of("B")]
        await found.look()
        for shrunken in ([of("A")], []):
            api.lists[""] = shrunken
            await found.look()
            assert watched(found) == ["A", "B"]


async def test_a_list_that_fails_changes_nothing_and_is_reported_until_it_works(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [of("A")]
        await found.look()
        api.fails("list", ApiUnavailable("HTTP 502"))
        await found.look()
        assert (watched(found), found.error) == (["A"], "HTTP 502")
        await found.look()
        assert found.error is None


async def test_a_known_ticket_that_is_closed_is_watched_on_with_its_new_status(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [of("A")]
        await found.look()
        api.lists[""] = [of("A", TicketStatus.CONFIRMED)]
        await found.look()
        assert found.poller.watched["A"].ticket.status is TicketStatus.CONFIRMED


async def test_tickets_of_several_uids_are_asked_for_under_their_own(tmp_path: Path) -> None:
    async with discovery(tmp_path, "11", "22") as (found, api):
        api.lists = {"11": [of("A")], "22": [of("B")]}
        await found.look()
        assert {number: each.account.uid for number, each in found.poller.watched.items()} == {"A": "11", "B": "22"}


async def test_one_customer_whose_list_is_denied_hides_none_of_the_others(tmp_path: Path) -> None:
    async with discovery(tmp_path, "11", "22", "33") as (found, api):
        api.lists = {"11": [of("A")], "22": [of("B")], "33": [of("C")]}
        api.fails("list 22", ApiDenied("no permission"))
        await found.look()
        assert (watched(found), found.error, found.was_tried) == (["A", "C"], "no permission", True)
        await found.look()
        assert (watched(found), found.error) == (["A", "B", "C"], None)


async def test_refused_credentials_are_not_tried_for_every_customer(tmp_path: Path) -> None:
    async with discovery(tmp_path, "11", "22", "33") as (found, api):
        api.fails("list 11", CredentialsRejected("the access key is disabled"))
        await found.look()
        assert len(api.calls) == 1
        assert found.error == "the access key is disabled"


async def test_a_throttled_list_is_asked_for_again_after_the_pause(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [of("A")]
        api.fails("list", *[ApiThrottled("slow down", retry_after=timedelta(seconds=20))] * 2)
        await found.look()
        assert (watched(found), found.error) == (["A"], None)
        assert sum(found.clock.slept) == pytest.approx(40, abs=1)  # type: ignore[attr-defined]


async def test_a_list_that_is_always_throttled_is_reported(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.fails("list", *[ApiThrottled("slow down")] * 5)
        await found.look()
        assert found.error == "slow down"
        assert len(api.calls) == 5


async def test_the_list_is_read_again_and_again_sooner_after_a_failure(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.fails("list", ApiUnavailable("HTTP 502"))
        async with anyio.create_task_group() as group:
            group.start_soon(found.run)
            await until(lambda: len(api.calls) >= 4)
            group.cancel_scope.cancel()
        after_failure, *usual = [later - earlier for earlier, later in pairwise(api.asked_at[:4])]
        assert after_failure <= 2
        assert usual == pytest.approx([300, 300])


async def test_tickets_of_an_earlier_run_are_watched_on_whether_the_list_shows_them_or_not(tmp_path: Path) -> None:
    async with discovery(tmp_path, "11") as (found, _):
        found.resume(row("A", uid="11", error="HTTP 502"), now=NOON)
        resumed = found.poller.watched["A"]
        assert (resumed.ticket.title, resumed.ticket.status, resumed.account.uid) == ("T", TicketStatus.DEALING, "11")
        # Its row says that it fails: the first good poll will say that it does not.
        assert resumed.is_error_stored


@pytest.mark.parametrize(("days", "is_watched"), [(6, True), (8, False), (None, False)])
async def test_a_closed_ticket_is_watched_on_for_a_week_after_its_last_note(
    tmp_path: Path, days: float | None, *, is_watched: bool
) -> None:
    async with discovery(tmp_path) as (found, _):
        last = None if days is None else -days * 24 * 60
        found.resume(row("A", status="confirmed", last_note=last), now=NOON)
        assert bool(watched(found)) is is_watched


async def test_a_discovered_reply_reaches_the_outbox(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [of("A")]
        api.shows("A", note(1, minutes=40))
        await found.look()
        await found.poller.look_at_all()
        assert len(await found.poller.store.history(most=9)) == 1


@pytest.mark.parametrize(
    ("count", "size", "pages"), [(1, 100, 1), (100, 100, 1), (101, 100, 2), (12, 10, 2), (0, 10, 1)]
)
async def test_the_list_is_read_to_its_end_however_large_its_pages_are(
    tmp_path: Path, count: int, size: int, pages: int
) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [ticket(f"T{number:03}") for number in range(count)]
        api.page_size = size
        await found.look()
        assert len(watched(found)) == count
        assert len(api.since) == pages


async def test_without_a_total_the_list_ends_where_a_page_holds_nothing_new(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [ticket("A"), ticket("B"), ticket("C")]
        api.page_size, api.tells_total = 2, False
        await found.look()
        assert watched(found) == ["A", "B", "C"]
        assert len(api.since) == 3


async def test_one_failed_page_fails_the_whole_list(tmp_path: Path) -> None:
    async with discovery(tmp_path) as (found, api):
        api.lists[""] = [ticket("A"), ticket("B")]
        api.page_size = 1
        api.fails("list", *[None, ApiUnavailable("HTTP 503")])
        await found.look()
        assert watched(found) == []
        assert found.error == "HTTP 503"
