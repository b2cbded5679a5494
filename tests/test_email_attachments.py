"""Files that are enclosed in mails: what is downloaded, under which name, and what stays a link."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import anyio
import pytest

from tests.fakes import NOON, delivery, ticket
from tests.maildesk import attached, enclosed, open_desk, open_files
from tests.mailserver import authority, open_office
from watcher.config.load import load
from watcher.detect import digest
from watcher.errors import SinkPartly, SinkRejected, SinkUnavailable
from watcher.model import Attachment, Content, Event
from watcher.outlets import open_outlets

# --- what is enclosed -------------------------------------------------------------------------------------


async def test_files_are_enclosed_and_named() -> None:
    async with open_desk() as desk:
        content = bytes(range(256)) * 100
        mail = await desk.tells(attached(desk.files.keeps("renew.log", content), desk.files.keeps("b.png")))
    assert enclosed(mail) == {"renew.log": content, "b.png": b"content"}
    parts = cast("list[EmailMessage]", list(mail.message.iter_attachments()))
    assert [part.get_content_type() for part in parts] == ["application/octet-stream", "image/png"]
    assert {part.get_content_disposition() for part in parts} == {"attachment"}
    assert "Attachments (enclosed)\n  renew.log\n  b.png\n" in mail.part("plain")
    assert "Signature" not in mail.part("plain") + mail.part("html")


async def test_a_digest_encloses_the_files_of_all_its_events_under_distinct_names() -> None:
    async with open_desk() as desk:
        first = attached(desk.files.keeps("1/a.log", b"one"))
        second = replace(attached(desk.files.keeps("2/a.log", b"two"), ticket=ticket("OTHER")), id="msg_other")
        mail = await desk.tells(digest([first, second], sink="mail", now=NOON))
    assert enclosed(mail) == {"a.log": b"one", "a (2).log": b"two"}
    assert "Attachments (enclosed)\n  a (2).log\n" in mail.part("plain")


async def test_content_that_is_not_to_leave_is_not_fetched() -> None:
    async with open_desk() as desk:
        mail = await desk.tells(attached(desk.files.keeps("a.log")), content=Content.NONE)
        assert desk.files.asked == []
    assert enclosed(mail) == {}


async def test_a_file_is_asked_for_as_it_is() -> None:
    async with open_desk() as desk:
        asked: list[str] = []
        desk.files.on_request = lambda request: asked.append(request.headers["Accept-Encoding"])
        await desk.tells(attached(desk.files.keeps("a.log.gz")))
    assert asked == ["identity"]


async def test_the_mail_server_is_asked_before_the_files() -> None:
    async with open_desk() as desk:
        seen: list[list[str]] = []
        desk.files.on_request = lambda _: seen.append(list(desk.office.commands))
        await desk.tells(attached(desk.files.keeps("a.log")))
        assert "EHLO" in seen[0]
        assert "MAIL" not in seen[0]


async def test_a_mail_server_that_is_down_costs_no_downloads() -> None:
    async with open_desk() as desk:
        desk.office.answers("EHLO", "421 busy")
        with pytest.raises(SinkUnavailable):
            await desk.tells(attached(desk.files.keeps("a.log")))
        assert desk.files.asked == []


# --- what stays a link ------------------------------------------------------------------------------------


async def test_what_is_too_large_stays_a_link_and_the_others_are_enclosed() -> None:
    async with open_desk() as desk:
        files = [
            desk.files.keeps("a.log", b"x" * 60),
            desk.files.keeps("big.log", b"x" * 60),
            desk.files.keeps("c", b"x" * 40),
        ]
        mail = await desk.tells(attached(*files), max_size=100)
    assert list(enclosed(mail)) == ["a.log", "c"]
    assert f"  big.log: not enclosed, too large  {files[1]}\n" in mail.part("plain")


async def test_only_so_many_files_are_enclosed() -> None:
    async with open_desk() as desk:
        mail = await desk.tells(attached(*(desk.files.keeps(f"{number}.log") for number in range(12))))
        assert len(desk.files.asked) == 10
    assert len(enclosed(mail)) == 10
    assert mail.part("plain").count("not enclosed, too many files") == 2


async def test_a_slow_file_stays_a_link_and_costs_the_others_nothing() -> None:
    async with open_desk() as desk:
        slow, quick = desk.files.keeps("slow.log"), desk.files.keeps("quick.log")
        desk.files.hangs("slow.log")
        with anyio.fail_after(25):
            mail = await desk.tells(attached(slow, quick), seconds=6)
    assert list(enclosed(mail)) == ["quick.log"]
    assert "slow.log: not enclosed, the download took too long" in mail.part("plain")


@pytest.mark.parametrize("status", [302, 400, 500, 503])
async def test_what_cannot_be_had_stays_a_link(status: int) -> None:
    async with open_desk() as desk:
        url = desk.files.keeps("a.log")
        desk.files.refuses("a.log", status)
        mail = await desk.tells(attached(url))
        assert desk.files.asked == ["a.log"]
    assert enclosed(mail) == {}
    assert f"a.log: not enclosed, it could not be downloaded  {url}" in mail.part("plain")


@pytest.mark.parametrize("url", ["", "ftp://x.example/a.log", "file:///etc/passwd", "http://nowhere.invalid/a.log"])
async def test_an_address_that_leads_nowhere_costs_no_mail(url: str) -> None:
    async with open_desk() as desk:
        mail = await desk.tells(attached(Attachment(name="a.log", url=url)))
    assert enclosed(mail) == {}
    assert "a.log: not enclosed" in mail.part("plain")


async def test_private_addresses_are_not_called() -> None:
    async with open_desk(allow_loopback=False) as desk:
        port = desk.files.keeps("a.log").partition("127.0.0.1")[2]
        urls = [f"http://{host}{port}" for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]")]
        mail = await desk.tells(attached(*urls))
        assert desk.files.asked == []
    assert enclosed(mail) == {}
    assert mail.part("plain").count("not enclosed") == 4


async def test_a_mail_that_can_reach_nobody_costs_no_downloads() -> None:
    async with open_desk() as desk:
        with pytest.raises(SinkRejected, match="SMTPUTF8"):
            await desk.sink(to=["用户@corp.example"]).send(delivery(attached(desk.files.keeps("a.log"))), now=NOON)
        assert desk.files.asked == []


async def test_files_are_fetched_once_and_refused_for_those_alone_to_whom_they_were_offered() -> None:
    async with open_desk(utf8=True) as desk:
        desk.office.answers("DATA", "554 no files here")
        told = attached(desk.files.keeps("a.log"))
        await desk.sink(to=["用户@corp.example", "ops@corp.example"]).send(delivery(told), now=NOON)
        assert desk.files.asked == ["a.log"]
    assert [(mail.receivers, list(enclosed(mail))) for mail in desk.office.received] == [
        (("ops@corp.example",), []),
        (("用户@corp.example",), ["a.log"]),
    ]


async def test_a_server_that_takes_less_gets_links() -> None:
    async with open_desk(size=20_000) as desk:
        small = await desk.tells(attached(desk.files.keeps("a.log", b"x" * 1000)))
        large = await desk.tells(attached(desk.files.keeps("b.log", b"x" * 20_000)))
    assert list(enclosed(small)) == ["a.log"]
    assert enclosed(large) == {}
    assert "b.log: not enclosed, too large for the mail server  http://" in large.part("plain")


@pytest.mark.parametrize("answer", ["552 too much", "554 no such files here"])
async def test_a_server_that_refuses_the_files_gets_links(answer: str) -> None:
    async with open_desk() as desk:
        desk.office.answers("DATA", answer)
        mail = await desk.tells(attached(desk.files.keeps("a.log")))
        assert desk.files.asked == ["a.log"]
    assert enclosed(mail) == {}
    assert "a.log: not enclosed, the mail server refused it  http://" in mail.part("plain")


async def test_who_was_not_accepted_is_not_asked_again_because_of_the_files() -> None:
    async with open_desk() as desk:
        ops, later, never = "ops@corp.example", "later@corp.example", "never@corp.example"
        desk.office.refuses(later, 450)
        desk.office.refuses(never, 550)
        desk.office.answers("DATA", "554 no files here")
        told = attached(desk.files.keeps("a.log"))
        with pytest.raises(SinkPartly) as caught:
            await desk.sink(to=[ops, later, never]).send(delivery(told), now=NOON)
        assert desk.office.asked == [ops, later, never, ops]
    assert {receiver: type(error) for receiver, error in caught.value.left.items()} == {
        later: SinkUnavailable,
        never: SinkRejected,
    }
    assert enclosed(desk.office.received[0]) == {}


async def test_a_mail_that_is_refused_without_its_files_too_is_given_up() -> None:
    async with open_desk() as desk:
        desk.office.answers("DATA", "554 no files here", "554 nothing at all")
        with pytest.raises(SinkRejected, match="nothing at all"):
            await desk.tells(attached(desk.files.keeps("a.log")))


async def test_a_server_that_is_busy_gets_the_files_next_time() -> None:
    async with open_desk() as desk:
        url = desk.files.keeps("a.log")
        desk.office.answers("DATA", "451 later")
        with pytest.raises(SinkUnavailable):
            await desk.tells(attached(url))
        assert list(enclosed(await desk.tells(attached(url)))) == ["a.log"]


async def test_a_mail_that_its_files_make_too_slow_goes_without_them_in_the_end() -> None:
    async with open_desk() as desk:
        sink = desk.sink(seconds=0.5)
        told = attached(desk.files.keeps("a.log"))
        for _ in range(2):
            desk.office.hangs("DATA")
            with pytest.raises(SinkUnavailable, match="did not take the mail within"):
                await sink.send(delivery(told), now=NOON)
        assert desk.office.received == []
        await sink.send(delivery(told), now=NOON)
        await sink.send(delivery(told), now=NOON)
        without, later = desk.office.received
    assert enclosed(without) == {}
    assert "a.log: not enclosed, with it the mail took too long  http://" in without.part("plain")
    assert list(enclosed(later)) == ["a.log"]


# --- addresses that expire --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_address_is_asked_for_again(status: int) -> None:
    async with open_desk() as desk:
        old, new = desk.files.keeps("old/a.log"), desk.files.keeps("new/a.log", b"fresh")
        desk.files.refuses("old/a.log", status)
        asked: list[Event] = []

        async def refresh(told: Event) -> Sequence[Attachment]:
            asked.append(told)
            return (Attachment(name="a.log", url=new),)

        told = attached(old)
        mail = await desk.tells(told, refresh=refresh)
        assert asked == [told]
    assert enclosed(mail) == {"a.log": b"fresh"}


async def test_an_address_that_says_it_has_expired_is_not_even_tried() -> None:
    async with open_desk() as desk:
        old = Attachment(name="a.log", url=desk.files.keeps("old/a.log"), expires_at=NOON - timedelta(minutes=1))
        fresh = replace(old, url=desk.files.keeps("new/a.log"), expires_at=NOON + timedelta(minutes=1))

        async def refresh(_: Event) -> Sequence[Attachment]:
            return (fresh,)

        mail = await desk.tells(attached(old), refresh=refresh)
        assert desk.files.asked == ["new/a.log"]
    assert list(enclosed(mail)) == ["a.log"]


async def test_files_of_one_name_are_told_apart_by_their_order_and_asked_for_once() -> None:
    async with open_desk() as desk:
        expired = NOON - timedelta(minutes=1)
        old = [Attachment(name="a.log", url=f"{desk.files.url}old", expires_at=expired) for _ in range(2)]
        fresh = [Attachment(name="a.log", url=desk.files.keeps(f"{n}/a.log", str(n).encode())) for n in (1, 2)]
        calls: list[Event] = []

        async def refresh(told: Event) -> Sequence[Attachment]:
            calls.append(told)
            return (Attachment(name="other", url=""), *fresh)

        mail = await desk.tells(attached(*old), refresh=refresh)
        assert len(calls) == 1
    assert enclosed(mail) == {"a.log": b"1", "a (2).log": b"2"}


@pytest.mark.parametrize("fresh", [(), (Attachment(name="other.log", url="http://127.0.0.1:1/"),)])
async def test_without_a_fresh_address_the_file_stays_a_link(fresh: tuple[Attachment, ...]) -> None:
    async with open_desk() as desk:
        old = Attachment(name="a.log", url=desk.files.keeps("a.log"), expires_at=NOON)

        async def refresh(_: Event) -> Sequence[Attachment]:
            return fresh

        for mail in (await desk.tells(attached(old), refresh=refresh), await desk.tells(attached(old))):
            assert enclosed(mail) == {}
            assert f"a.log: not enclosed, the link has expired  {old.url}" in mail.part("plain")


async def test_the_newest_address_is_the_link_that_stays() -> None:
    async with open_desk() as desk:
        old = Attachment(name="a.log", url=f"{desk.files.url}old", expires_at=NOON)
        new = desk.files.keeps("new/a.log", b"x" * 1000)

        async def refresh(_: Event) -> Sequence[Attachment]:
            return (Attachment(name="a.log", url=new),)

        mail = await desk.tells(attached(old), refresh=refresh, max_size=100)
    assert f"a.log: not enclosed, too large  {new}" in mail.part("plain")


async def test_a_refresh_that_never_ends_makes_no_mail_late_for_ever() -> None:
    async with open_desk() as desk:
        old = Attachment(name="a.log", url="https://x.example/a.log", expires_at=NOON)

        async def refresh(_: Event) -> Sequence[Attachment]:
            await anyio.sleep_forever()
            return ()

        with anyio.fail_after(25):
            mail = await desk.tells(attached(old), refresh=refresh, seconds=4)
    assert "a.log: not enclosed, the download took too long" in mail.part("plain")


FILE = """version: 1
accounts:
  prod: {{endpoint: "{endpoint}"}}
sinks:
  mail:
    type: email
    smtp: {{host: localhost, port: {port}, ca: ca.pem}}
    from: w@corp.example
    to: ops@corp.example
    content: full
    attachments: fetch
"""


@pytest.mark.parametrize(
    ("endpoint", "names"), [("http://127.0.0.1:1/", ["a.log"]), ("https://workorder.aliyuncs.com", [])]
)
async def test_only_a_simulators_files_may_be_on_this_machine(endpoint: str, names: list[str], tmp_path: Path) -> None:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    path = tmp_path / "watcher.yaml"
    async with open_office() as office, open_files() as files:
        path.write_text(FILE.format(endpoint=endpoint, port=office.port))
        async with open_outlets(load(path, {})) as outlets:
            await outlets.build("mail").send(delivery(attached(files.keeps("a.log"))), now=NOON)
    assert list(enclosed(office.received[0])) == names
