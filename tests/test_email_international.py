"""Mail to and from addresses beyond ASCII, and what it costs the others: nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.fakes import NOON, delivery, event
from tests.mailserver import PostOffice, open_office
from tests.test_email import DESK, OPS, failure, sink
from watcher.errors import SinkPartly, SinkRejected, SinkUnavailable

USER = "用户@corp.example"


async def test_international_domains_need_nothing_of_the_server() -> None:
    async with open_office() as office:
        await sink(office, sender="watcher@例子.中国", to=["ops@bücher.example"]).send(delivery(event()), now=NOON)
    (mail,) = office.received
    assert mail.receivers == ("ops@xn--bcher-kva.example",)
    assert mail.message["Message-ID"] == f"<{event().id}@watcher.xn--fsqu00a.xn--fiqs8s>"


async def test_an_international_address_is_told_by_a_server_that_can() -> None:
    async with open_office(utf8=True) as office:
        await sink(office, to=[USER, "Ops <ops@corp.example>"]).send(delivery(event()), now=NOON)
    *_, mail = office.received
    assert mail.receivers == (USER,)
    assert "SMTPUTF8" in mail.options
    assert "To: 用户@corp.example,\r\n Ops <ops@corp.example>\r\n".encode() in mail.content


async def test_addresses_in_ascii_are_told_without_smtputf8_on_the_same_connection() -> None:
    async with open_office(utf8=True) as office:
        await sink(office, to=[USER, OPS], cc=[DESK]).send(delivery(event()), now=NOON)
    plain, wide = office.received
    assert (plain.receivers, wide.receivers) == ((OPS, DESK), (USER,))
    assert not [option for option in plain.options if option.startswith(("SMTPUTF8", "BODY"))]
    assert plain.content.isascii()
    assert b"\r\nTo: ops@corp.example\r\n" in plain.content
    assert plain.message["Message-ID"] == wide.message["Message-ID"]
    # Before TLS and after it.
    assert office.commands.count("EHLO") == 2


async def test_a_mail_in_ascii_always_has_a_line_for_whom_it_is() -> None:
    async with open_office(utf8=True) as office:
        await sink(office, to=[USER], cc=[OPS]).send(delivery(event()), now=NOON)
    plain = office.received[0]
    assert plain.receivers == (OPS,)
    assert (plain.message["To"], plain.message["Cc"]) == ("undisclosed-recipients:;", OPS)


@pytest.mark.parametrize(
    ("sender", "to", "utf8"),
    [
        ("watcher@corp.example", [OPS, DESK], False),
        ("watcher@corp.example", [USER, "运维@corp.example"], True),
        ("监视@corp.example", [USER, OPS], True),
    ],
)
async def test_one_transaction_is_enough_where_all_need_the_same(sender: str, to: list[str], utf8: bool) -> None:
    async with open_office(utf8=True) as office:
        await sink(office, sender=sender, to=to).send(delivery(event()), now=NOON)
    (mail,) = office.received
    assert mail.receivers == tuple(to)
    assert ("SMTPUTF8" in mail.options) is utf8


@pytest.mark.parametrize(
    ("breaks", "command"),
    [
        *((PostOffice.drops, command) for command in ("MAIL", "RCPT", "DATA")),
        # What hangs costs the whole time limit, wherever it hangs.
        (PostOffice.hangs, "DATA"),
    ],
)
async def test_who_has_the_mail_has_it_whatever_becomes_of_the_others(
    breaks: Callable[[PostOffice, str], None], command: str
) -> None:
    async with open_office(utf8=True) as office:
        office.works(command)
        breaks(office, command)
        with pytest.raises(SinkPartly) as caught:
            await sink(office, to=[USER, OPS], timeout=timedelta(seconds=2)).send(delivery(event()), now=NOON)
        assert [mail.receivers for mail in office.received] == [(OPS,)]
    assert {receiver: type(error) for receiver, error in caught.value.left.items()} == {USER: SinkUnavailable}


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_what_is_refused_for_international_addresses_is_refused_for_them_alone(command: str) -> None:
    async with open_office(utf8=True) as office:
        office.works(command)
        office.answers(command, "550 not so")
        with pytest.raises(SinkPartly) as caught:
            await sink(office, to=[USER, OPS]).send(delivery(event()), now=NOON)
        assert [mail.receivers for mail in office.received] == [(OPS,)]
    assert list(caught.value.left) == [USER]
    assert "not so" in str(caught.value.left[USER])


@pytest.mark.parametrize("command", ["RCPT", "DATA"])
async def test_what_is_refused_for_addresses_in_ascii_costs_the_others_nothing(command: str) -> None:
    async with open_office(utf8=True) as office:
        office.answers(command, "550 not so")
        with pytest.raises(SinkPartly) as caught:
            await sink(office, to=[USER, OPS]).send(delivery(event()), now=NOON)
        assert [mail.receivers for mail in office.received] == [(USER,)]
    assert list(caught.value.left) == [OPS]
    assert isinstance(caught.value.left[OPS], SinkRejected)


async def test_a_server_that_does_not_know_how_to_begin_anew_is_offered_the_next_mail_all_the_same() -> None:
    async with open_office(utf8=True) as office:
        office.refuses(OPS, 450)
        office.answers("RSET", "502 not implemented")
        with pytest.raises(SinkPartly):
            await sink(office, to=[USER, OPS]).send(delivery(event()), now=NOON)
        assert [mail.receivers for mail in office.received] == [(USER,)]


async def test_an_international_address_that_the_server_cannot_reach_costs_the_others_nothing() -> None:
    async with open_office() as office:
        with pytest.raises(SinkPartly) as caught:
            await sink(office, to=[USER, OPS]).send(delivery(event()), now=NOON)
        alone = await failure(sink(office, to=[USER]))
    assert office.received[0].receivers == (OPS,)
    assert list(caught.value.left) == [USER]
    assert isinstance(caught.value.left[USER], SinkRejected)
    assert isinstance(alone, SinkRejected)
    assert "has no SMTPUTF8" in str(alone)


async def test_an_international_sender_is_a_matter_of_the_configuration() -> None:
    async with open_office() as office:
        error = await failure(sink(office, sender="监视@corp.example"))
    assert isinstance(error, SinkUnavailable)
    assert "`from`" in str(error)
