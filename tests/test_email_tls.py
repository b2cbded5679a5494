"""How the email sink comes to its server: encrypted or not at all, and what the file may say about it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOON, delivery, event
from tests.mailserver import PASSWORD, USER, PostOffice, authority, open_office
from tests.test_email import failure, sink
from watcher import tls
from watcher.config.load import load
from watcher.document import ProblemsFound
from watcher.errors import SinkUnavailable
from watcher.mail.mailbox import Mailbox
from watcher.outlets import open_outlets

LOGIN: Mapping[str, Any] = {"user": USER, "password": PASSWORD}


async def refusal(office: PostOffice, **more: Any) -> str:
    """Return why the sink does not even try to hand over a mail; it may try again."""
    error = await failure(sink(office, **more))
    assert isinstance(error, SinkUnavailable)
    assert "MAIL" not in office.commands
    assert office.received == []
    return str(error)


@pytest.mark.parametrize("way", ["starttls", "implicit"])
async def test_both_ways_of_tls_log_in(way: Any) -> None:
    async with open_office(way, auth=True) as office:
        await sink(office, **LOGIN).send(delivery(event()), now=NOON)
    assert office.received[0].tls in {"TLSv1.2", "TLSv1.3"}
    assert office.received[0].user == USER


async def test_a_server_on_this_machine_may_do_without() -> None:
    async with open_office("none") as office:
        await sink(office).send(delivery(event()), now=NOON)
    assert office.received[0].tls == ""


@pytest.mark.parametrize("way", ["starttls", "implicit"])
async def test_a_certificate_for_another_host_is_refused(way: Any) -> None:
    async with open_office(way, certified_for="other.example", auth=True) as office:
        said = await refusal(office, **LOGIN)
    assert "the certificate of the mail server localhost:" in said
    assert "`smtp.host`" in said
    assert not [command for command in office.commands if command.startswith("AUTH")]


@pytest.mark.parametrize("way", ["starttls", "implicit"])
async def test_a_certificate_of_a_strange_authority_is_refused(way: Any) -> None:
    async with open_office(way) as office:
        said = await refusal(office, context=tls.trusting())
    assert "`smtp.ca`" in said
    assert "certificate" in said


async def test_a_server_that_does_not_offer_starttls_gets_nothing() -> None:
    async with open_office("none", auth=True) as office:
        said = await refusal(office, tls="starttls", **LOGIN)
    assert "STARTTLS" in said
    assert "`smtp.tls`" in said
    assert office.commands == ["EHLO"]


async def test_somebody_in_the_middle_cannot_take_starttls_away() -> None:
    async with open_office(auth=True) as office:
        office.hides("STARTTLS")
        said = await refusal(office, **LOGIN)
    assert "STARTTLS" in said
    assert office.commands == ["EHLO"]


async def test_a_server_that_does_not_speak_tls_from_the_start_is_said_to() -> None:
    async with open_office() as office:
        said = await refusal(office, tls="implicit")
    assert "does not speak TLS" in said
    assert "`smtp.tls` and `smtp.port`" in said


async def test_a_server_without_logins_is_said_to_have_none() -> None:
    async with open_office() as office:
        office.hides("AUTH")
        said = await refusal(office, **LOGIN)
    assert "AUTH" in said
    assert "`smtp.user`" in said


@pytest.mark.parametrize("way", ["starttls", "implicit"])
async def test_a_wrong_password_is_said_once_for_each_attempt(way: Any) -> None:
    async with open_office(way, auth=True) as office:
        said = await refusal(office, user=USER, password="wrong-password")
    assert "refused the login: 535; look at `smtp.user` and `smtp.password`" in said
    assert "wrong-password" not in said
    # Servers count, and lock out who is wrong too often.
    assert [command for command in office.commands if command.startswith("AUTH")] == ["AUTH PLAIN"]


# --- what the file says -----------------------------------------------------------------------------------

SINK = """version: 1
accounts:
  prod: {{site: cn, auth: {{type: access_key, access_key_id: {{env: ID}}, access_key_secret: {{env: KEY}}}}}}
sinks:
  mail:
    type: email
    smtp: {smtp}
    from: {sender}
    to: {to}
    {more}
"""


def written(
    path: Path,
    *,
    smtp: str = "{host: smtp.corp.example}",
    sender: str = "w@corp.example",
    to: str = "[ops@corp.example]",
    more: str = "",
) -> Path:
    file = path / "watcher.yaml"
    file.write_text(SINK.format(smtp=smtp, sender=sender, to=to, more=more))
    return file


def problem(path: Path, **more: str) -> str:
    with pytest.raises(ProblemsFound) as caught:
        load(written(path, **more), {})
    return str(caught.value)


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    model: Any = load(written(tmp_path), {}).model.sinks["mail"]
    assert (model.smtp.tls, model.smtp.default_port) == ("starttls", 587)
    assert model.sender == Mailbox("w", "corp.example")
    assert model.to == [Mailbox("ops", "corp.example")]


@pytest.mark.parametrize(("way", "port"), [("starttls", 587), ("implicit", 465)])
def test_each_way_has_its_port(tmp_path: Path, way: str, port: int) -> None:
    model: Any = load(written(tmp_path, smtp=f"{{host: h.example, tls: {way}}}"), {}).model.sinks["mail"]
    assert model.smtp.default_port == port


@pytest.mark.parametrize(
    ("smtp", "said"),
    [
        ("{host: smtp.corp.example, tls: none}", "`tls: none` is allowed only to a loopback address"),
        ("{host: 192.168.1.1, tls: none}", "`tls: none` is allowed only to a loopback address"),
        ("{host: h.example, port: 465}", "write `tls: implicit`"),
        ("{host: h.example, user: me}", "`user` needs a `password`"),
        ("{host: h.example, password: {env: P}}", "`password` needs a `user`"),
        ("{host: h.example, user: me, password: hunter2}", "a secret never stands in this file"),
        ("{host: h.example, port: 0}", "port"),
        ("{host: smtp corp}", "`smtp corp` is not a host name"),
        ("{host: a..example}", "is not a host name"),
        ("{host: 'smtp.corp.example:587'}", "is not a host name"),
        ("{host: h.example, tls: ssl}", "tls"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, smtp: str, said: str) -> None:
    assert said in problem(tmp_path, smtp=smtp)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "'::1'"])
def test_a_server_on_this_machine_may_do_without_tls(tmp_path: Path, host: str) -> None:
    model: Any = load(written(tmp_path, smtp=f"{{host: {host}, tls: none}}"), {}).model.sinks["mail"]
    assert model.smtp.default_port == 25


def test_each_address_is_checked_and_the_bad_one_named(tmp_path: Path) -> None:
    said = problem(tmp_path, sender="nobody", to="[ops@corp.example, ops.corp.example]", more="cc: [a b@corp.example]")
    assert "sinks.mail.from: `nobody` is not an address" in said
    assert "sinks.mail.to[1]: `ops.corp.example` is not an address" in said
    assert "sinks.mail.cc[0]: `a b@corp.example`" in said


def test_somebody_must_be_told(tmp_path: Path) -> None:
    assert "sinks.mail.to" in problem(tmp_path, to="[]")


async def test_the_sink_is_built_as_the_file_says(tmp_path: Path) -> None:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    async with open_office(auth=True) as office:
        smtp = f"{{host: localhost, port: {office.port}, user: {USER}, password: {{env: PW}}, ca: ca.pem}}"
        file = written(tmp_path, smtp=smtp, sender="Cloud Desk <w@corp.example>", more="bcc: [audit@corp.example]")
        async with open_outlets(load(file, {"PW": PASSWORD})) as outlets:
            await outlets.build("mail").send(delivery(event()), now=NOON)
    (mail,) = office.received
    assert set(mail.receivers) == {"ops@corp.example", "audit@corp.example"}
    assert mail.message["From"] == "agent 1024 via Cloud Desk <w@corp.example>"


async def test_a_file_of_authorities_that_is_none_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    async with open_outlets(load(written(tmp_path, smtp="{host: localhost, ca: ca.pem}"), {})) as outlets:
        with pytest.raises(ProblemsFound, match=r"sinks\.mail\.smtp\.ca: holds no certificate"):
            outlets.build("mail")


async def test_a_preview_needs_no_secret(tmp_path: Path) -> None:
    file = written(tmp_path, smtp="{host: localhost, user: me, password: {env: ABSENT}}")
    async with open_outlets(load(file, {}), hides_secrets=True) as outlets:
        assert "Why ECS renewal failed?" in outlets.build("mail").preview(event(), now=NOON)
