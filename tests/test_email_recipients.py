"""Mail to several receivers: who has it, who waits, who is refused for good, and who is asked again."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.fakes import NOON, delivery, event
from tests.mailserver import PostOffice, open_office
from tests.test_email import BOSS, DESK, OPS, failure, sink
from watcher.errors import SinkPartly, SinkRejected, SinkUnavailable
from watcher.mail.tally import Refusals


async def test_each_receiver_has_its_own_outcome() -> None:
    async with open_office() as office:
        office.refuses(DESK, 450, "mailbox busy")
        office.refuses(BOSS, 550, "no such user here")
        with pytest.raises(SinkPartly) as caught:
            await sink(office, to=[OPS, DESK], bcc=[BOSS]).send(delivery(event()), now=NOON)
        assert [mail.receivers for mail in office.received] == [(OPS,)]
        left = caught.value.left
        assert {receiver: type(error) for receiver, error in left.items()} == {
            DESK: SinkUnavailable,
            BOSS: SinkRejected,
        }
        assert str(left[DESK]) == f"the mail server localhost:{office.port} answered 450 (mailbox busy)"
        office.accepts(DESK)
        await sink(office, to=[OPS, DESK], bcc=[BOSS]).send(delivery(event(), receiver=DESK), now=NOON)
    first, second = office.received
    assert second.receivers == (DESK,)
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert first.message["To"] == second.message["To"] == f"{OPS}, {DESK}"


async def test_if_nobody_may_ever_have_it_it_is_given_up() -> None:
    async with open_office() as office:
        office.refuses(OPS, 550, "no such user")
        office.refuses(DESK, 553, "not here")
        error = await failure(sink(office, to=[OPS, DESK]))
    assert isinstance(error, SinkRejected)
    assert f"{OPS}: the mail server localhost:{office.port} answered 550 (no such user)" in str(error)
    assert f"{DESK}: the mail server localhost:{office.port} answered 553 (not here)" in str(error)


async def test_if_one_may_have_it_later_all_wait() -> None:
    async with open_office() as office:
        office.refuses(OPS, 550)
        office.refuses(DESK, 451)
        assert isinstance(await failure(sink(office, to=[OPS, DESK])), SinkUnavailable)
        office.accepts(DESK)
        with pytest.raises(SinkPartly):
            await sink(office, to=[OPS, DESK]).send(delivery(event()), now=NOON)


async def test_a_receiver_who_was_removed_is_not_told() -> None:
    async with open_office() as office:
        error = await failure(sink(office), receiver=BOSS)
    assert isinstance(error, SinkRejected)
    assert "no longer" in str(error)
    assert office.received == []


# --- who is asked again -----------------------------------------------------------------------------------


async def test_who_is_refused_for_good_is_not_asked_again_while_the_others_wait() -> None:
    async with open_office() as office:
        one = sink(office, to=[BOSS, OPS, DESK])
        office.refuses(BOSS, 550, "no such user")
        office.refuses(OPS, 450, "greylisted")
        office.refuses(DESK, 452, "mailbox full")
        for asked in ([BOSS, OPS, DESK], [OPS, DESK], [OPS, DESK]):
            office.asked.clear()
            error = await failure(one)
            assert isinstance(error, SinkUnavailable)
            said = f"the mail server localhost:{office.port} answered"
            assert str(error) == (
                f"{OPS}: {said} 450 (greylisted); {DESK}: {said} 452 (mailbox full); {BOSS}: {said} 550 (no such user)"
            )
            assert office.asked == asked
        office.accepts(OPS)
        office.accepts(BOSS)
        with pytest.raises(SinkPartly) as caught:
            await one.send(delivery(event()), now=NOON)
        left = caught.value.left
    assert [mail.receivers for mail in office.received] == [(OPS,)]
    assert {receiver: type(error) for receiver, error in left.items()} == {BOSS: SinkRejected, DESK: SinkUnavailable}
    assert str(left[BOSS]) == f"{said} 550 (no such user)"


async def test_if_nobody_is_left_to_ask_it_is_given_up_in_everybodys_words() -> None:
    async with open_office() as office:
        one = sink(office, to=[OPS, BOSS])
        office.refuses(BOSS, 550, "no such user")
        office.refuses(OPS, 450)
        assert isinstance(await failure(one), SinkUnavailable)
        office.refuses(OPS, 553, "moved")
        errors = [await failure(one)]
        office.commands.clear()
        errors.append(await failure(one))
        assert office.commands == []
    for error in errors:
        assert isinstance(error, SinkRejected)
        assert f"{BOSS}: the mail server localhost:{office.port} answered 550 (no such user)" in str(error)
        assert f"{OPS}: the mail server localhost:{office.port} answered 553 (moved)" in str(error)


async def test_a_mail_that_is_refused_is_refused_for_those_whose_addresses_were_accepted() -> None:
    async with open_office() as office:
        one = sink(office, to=[OPS, DESK, BOSS])
        office.refuses(DESK, 450, "greylisted")
        office.answers("DATA", "554 looks like spam")
        error = await failure(one)
        assert isinstance(error, SinkUnavailable)
        assert f"{DESK}: the mail server localhost:{office.port} answered 450 (greylisted)" in str(error)
        assert f"{OPS}, {BOSS}: the mail server localhost:{office.port} refused the mail: 554" in str(error)
        office.accepts(DESK)
        office.asked.clear()
        with pytest.raises(SinkPartly) as caught:
            await one.send(delivery(event()), now=NOON)
        assert office.asked == [DESK]
    assert {receiver: type(each) for receiver, each in caught.value.left.items()} == dict.fromkeys(
        (OPS, BOSS), SinkRejected
    )
    assert "looks like spam" in str(caught.value.left[OPS])


async def test_a_busy_server_makes_those_wait_whom_it_knows() -> None:
    async with open_office() as office:
        one = sink(office, to=[OPS, BOSS])
        office.refuses(BOSS, 550)
        office.answers("DATA", "451 later")
        assert isinstance(await failure(one), SinkUnavailable)
        office.asked.clear()
        with pytest.raises(SinkPartly):
            await one.send(delivery(event()), now=NOON)
        assert office.asked == [OPS]


@pytest.mark.parametrize("breaks", [PostOffice.drops, PostOffice.hangs])
async def test_what_was_answered_is_known_after_an_attempt_that_breaks_off(
    breaks: Callable[[PostOffice, str], None],
) -> None:
    async with open_office() as office:
        one = sink(office, to=[BOSS, OPS], timeout=timedelta(seconds=2))
        office.refuses(BOSS, 550, "no such user")
        breaks(office, "DATA")
        error = await failure(one)
        assert isinstance(error, SinkUnavailable)
        assert f"{OPS}: " in str(error)
        assert f"{BOSS}: the mail server localhost:{office.port} answered 550 (no such user)" in str(error)
        office.asked.clear()
        with pytest.raises(SinkPartly) as caught:
            await one.send(delivery(event()), now=NOON)
        assert office.asked == [OPS]
        assert list(caught.value.left) == [BOSS]


async def test_a_server_that_is_down_is_said_with_who_is_refused_for_good() -> None:
    async with open_office() as office:
        one = sink(office, to=[BOSS, OPS])
        office.refuses(BOSS, 550, "no such user")
        office.refuses(OPS, 450)
        await failure(one)
    error = await failure(one)
    assert isinstance(error, SinkUnavailable)
    assert f"{OPS}: the connection to the mail server localhost:{office.port} was lost, or refused; {BOSS}: " in str(
        error
    )


async def test_a_replay_asks_everybody_once_more() -> None:
    async with open_office() as office:
        one = sink(office, to=[BOSS, OPS])
        office.refuses(BOSS, 550)
        office.refuses(OPS, 450)
        await failure(one)
        office.asked.clear()
        await failure(one, replay=True)
        await failure(one, replay=True, attempts=1)
        assert office.asked == [BOSS, OPS, OPS]
        office.accepts(BOSS)
        office.accepts(OPS)
        await one.send(delivery(event(), replay=True), now=NOON)
    assert office.received[0].receivers == (BOSS, OPS)


async def test_other_events_and_a_delivery_of_ones_own_ask_for_themselves() -> None:
    async with open_office() as office:
        one = sink(office, to=[BOSS, OPS])
        office.refuses(BOSS, 550)
        office.refuses(OPS, 450)
        await failure(one)
        office.accepts(BOSS)
        await one.send(delivery(event(), receiver=BOSS), now=NOON)
        office.asked.clear()
        await failure(one)
        assert office.asked == [OPS]
        with pytest.raises(SinkPartly):
            await one.send(delivery(event(2)), now=NOON)
    assert [mail.receivers for mail in office.received] == [(BOSS,), (BOSS,)]


def test_only_the_latest_events_are_remembered() -> None:
    refusals = Refusals(most_events=2)
    for name in ("one", "two", "one", "three"):
        refusals.remember(name, {OPS: "no such user"})
    assert [name for name in ("one", "two", "three") if refusals.of(name, [OPS])] == ["one", "three"]
    assert refusals.of("one", [DESK]) == {}
