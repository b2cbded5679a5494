"""One ticket is one thread: asked of the programs with which people read mail."""

import itertools
import mailbox
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOON, account, event, ticket
from tests.programs import needs
from watcher.detect import digest
from watcher.mail.compose import Addresses, compose
from watcher.mail.letter import write
from watcher.mail.mailbox import parse_mailbox
from watcher.model import Event, Kind, Language
from watcher.render import Voice
from watcher.sample import example

ADDRESSES = Addresses(sender=parse_mailbox("w@corp.example"), to=[parse_mailbox("ops@corp.example")])
Ids = frozenset[str]


def conversation(number: str, title: str, *, key: str = "prod") -> list[Event]:
    """Return three replies in a ticket, of which the first one starts the conversation."""
    of: dict[str, Any] = {"ticket": ticket(number, title=title), "account": account(key)}
    return [replace(event(f"{number}{n}", minutes=n, **of), is_first=n == 0) for n in range(3)]


ENGLISH = conversation("0005PYGCW", "Why ECS renewal failed?")
CHINESE = conversation("001571BTXC", "ECS 快照失败，无法回滚怎么办？")
#: Another account's ticket of the same number and title is another ticket.
FOREIGN = conversation("0005PYGCW", "Why ECS renewal failed?", key="other")
HOSTILE = conversation("a b<>@ =?utf-8?q?x?= " + "工" * 300, "Re: Re: [Ticket 0005PYGCW] Why ECS renewal failed?")
ALONE = [
    digest(ENGLISH + CHINESE, sink="mail", now=NOON),
    digest(ENGLISH[:2], sink="mail", now=NOON),
    example(Kind.TEST),
]


def message_id(of: Event) -> str:
    return f"{of.id}@watcher.corp.example"


def threads(*tickets: Sequence[Event]) -> set[Ids]:
    return {frozenset(map(message_id, events)) for events in tickets}


def delivered(maildir: Path, events: Sequence[Event]) -> None:
    """Put the mails into a maildir, in this order."""
    box = mailbox.Maildir(maildir)
    for position, told in enumerate(events):
        voice = Voice(language=Language.CHINESE if told in CHINESE else Language.ENGLISH)
        written = write(told, voice, domain="corp.example")
        box.add(compose(written, ADDRESSES, now=NOON + timedelta(minutes=position)))


def run(home: Path, *command: str, given: str | None = None) -> str:
    environ = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LC_ALL": "C.UTF-8",
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    done = subprocess.run(
        command, env=environ, cwd=home, input=given, capture_output=True, encoding="utf-8", check=True, timeout=60
    )
    return done.stdout


def notmuch(home: Path, maildir: Path) -> set[Ids]:
    config = home / ".notmuch-config"
    config.write_text(f"[database]\npath={maildir}\n[user]\nname=x\nprimary_email=x@x.example\n")
    run(home, "notmuch", "new", "--quiet")
    found = set()
    for thread in run(home, "notmuch", "search", "--output=threads", "*").split():
        ids = run(home, "notmuch", "search", "--output=messages", "--exclude=false", thread).split()
        found.add(frozenset(each.removeprefix("id:") for each in ids))
    return found


def mblaze(home: Path, maildir: Path) -> set[Ids]:
    files = run(home, "mlist", str(maildir))
    lines = run(home, "mthread", "-p", given=files).splitlines()
    found: list[set[str]] = []
    for line in lines:
        depth = len(line) - len(line.lstrip(" "))
        name = line.strip()
        if depth == 0:
            found.append(set())
        if not name.startswith("<"):
            found[-1].add(run(home, "mhdr", "-h", "message-id", name).strip().strip("<>"))
    return {frozenset(each) for each in found}


def mu(home: Path, maildir: Path) -> set[Ids]:
    where = f"--muhome={home / 'mu'}"
    run(home, "mu", "init", where, f"--maildir={maildir}")
    run(home, "mu", "index", where, "--quiet")
    everything = run(home, "mu", "find", where, "--fields=i", "").split()
    related = (
        run(home, "mu", "find", where, "--include-related", "--fields=i", f"msgid:{each}") for each in everything
    )
    return {frozenset(ids.split()) for ids in related}


READERS = [
    pytest.param(
        reader,
        id=reader.__name__,
        marks=needs(program),
    )
    for reader, program in ((notmuch, "notmuch"), (mblaze, "mthread"), (mu, "mu"))
]
ORDERS = {
    "as they were written": ENGLISH + CHINESE,
    "the newest first": [*reversed(ENGLISH + CHINESE)],
    "in turns": [*itertools.chain.from_iterable(zip(CHINESE[::-1], ENGLISH, strict=True))],
    "some of them twice": ENGLISH + CHINESE + ENGLISH[:2] + CHINESE[1:],
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_two_tickets_are_two_threads(
    read: Callable[[Path, Path], set[Ids]], order: Sequence[Event], tmp_path: Path
) -> None:
    delivered(tmp_path / "mail", order)
    assert read(tmp_path, tmp_path / "mail") == threads(ENGLISH, CHINESE)


@pytest.mark.parametrize("read", READERS)
def test_digests_and_tests_are_no_part_of_a_thread(read: Callable[[Path, Path], set[Ids]], tmp_path: Path) -> None:
    delivered(tmp_path / "mail", [*ENGLISH, *ALONE])
    assert read(tmp_path, tmp_path / "mail") == threads(ENGLISH, *([each] for each in ALONE))


@pytest.mark.parametrize("read", READERS)
def test_tickets_of_other_accounts_and_hostile_numbers_have_threads_of_their_own(
    read: Callable[[Path, Path], set[Ids]], tmp_path: Path
) -> None:
    delivered(tmp_path / "mail", ENGLISH + FOREIGN + HOSTILE)
    assert read(tmp_path, tmp_path / "mail") == threads(ENGLISH, FOREIGN, HOSTILE)
