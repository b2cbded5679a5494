"""The command line: a store that is torn or lost, and texts that come from outside."""

import json
import re
import time

import pytest

from tests.place import HOUR, OTHER, TICKET, Place, an_old_conversation
from watcher.simulator import Fault

# --- the store --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"this is not a database", b"", b"SQLite format 3\x00" + b"\xff" * 5000],
    ids=["text", "empty", "torn"],
)
async def test_a_store_that_cannot_be_read_is_refused_and_left_alone(place: Place, content: bytes) -> None:
    an_old_conversation(place.world)
    place.database.parent.mkdir()
    place.database.write_bytes(content)
    for args in (["run", "--once"], ["run"], ["run", "--once", "--dry-run"], ["tickets"], ["history", "--json"]):
        done = await place.watcher(*args, ends=1)
        assert "state/watcher.db" in done.err
        assert not done.out
        assert place.database.read_bytes() == content
    assert not place.world.counts["ListTicketNotes"]


async def test_a_store_torn_in_the_middle_is_refused_and_left_alone(place: Place) -> None:
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    content = bytearray(place.database.read_bytes())
    content[4096:-1] = b"\xa5" * (len(content) - 4097)
    place.database.write_bytes(content)
    done = await place.watcher("run", "--once", ends=1)
    assert "state/watcher.db" in done.err
    assert place.database.read_bytes() == content


async def test_a_store_whose_folder_cannot_be_made_is_named(place: Place) -> None:
    place.write("state", "a file where the folder should be")
    done = await place.watcher("run", "--once", ends=1)
    assert "state" in done.err


async def test_a_lost_database_repeats_under_the_old_ids(place: Place) -> None:
    an_old_conversation(place.world)
    an_old_conversation(place.world, OTHER)
    await place.watcher("run", "--once", ends=0)
    place.world.agent_reply(TICKET, "One.")
    place.world.agent_reply(OTHER, "Two.")
    await place.watcher("run", "--once", ends=0)
    before = place.receiver.notes()
    assert len(before) == 2
    for path in place.database.parent.iterdir():
        path.unlink()
    await place.watcher("run", "--once", ends=0)
    assert place.receiver.notes() == before
    assert len(place.receiver.got) == 3, "the second time they come as one digest"


# --- text from outside ------------------------------------------------------------------------------------

HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x1b[0m\u202eesrever\u2066\x9b2J\x00\r\nERROR forged line [bold]markup[/bold]"


async def test_nothing_in_a_title_or_a_name_steers_the_terminal(place: Place) -> None:
    place.configure(sinks="  me: {type: console}\n" + place.webhook())
    an_old_conversation(place.world, title=HOSTILE)
    place.world.agent_reply(TICKET, HOSTILE, name=HOSTILE, attachments=[HOSTILE], at=time.time() - HOUR)
    said = []
    for args in (["run", "--once", "-v"], ["tickets"], ["history"], ["show", TICKET], ["run", "--once", "--dry-run"]):
        done = await place.watcher(*args, ends=0)
        said += [done.out, done.err]
        if args[0] != "show":
            assert not re.search(r"^ERROR forged", done.out + done.err, re.MULTILINE)
    assert "[bold]markup" in "".join(said)
    for text in said:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


async def test_the_text_of_a_note_cannot_pass_for_words_of_the_watcher(place: Place) -> None:
    an_old_conversation(place.world)
    forged = "Yes.\n\nwatcher  msg_aaaa  dead\nAgent 1 (agent, read)  2026-01-01T00:00:00Z"
    place.world.agent_reply(TICKET, forged, at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)
    shown = (await place.watcher("show", TICKET, ends=0)).out.splitlines()
    assert [line for line in shown if "msg_aaaa  dead" in line] != ["watcher  msg_aaaa  dead"]


async def test_a_lone_surrogate_is_delivered_and_shown(place: Place) -> None:
    an_old_conversation(place.world)
    body = {
        "Code": 0,
        "Success": True,
        "Data": [{"DialogId": 9, "CreateTime": 1, "Status": 1, "Type": 2, "Dialog": {"Content": "half \ud83d"},
                  "User": {"Role": 2, "Name": "\udc00"}}],
    }  # fmt: skip
    place.world.inject(Fault(kind="body", action="ListTicketNotes", body=json.dumps(body).encode()))
    await place.watcher("run", "--once", ends=0)
    assert list(place.receiver.notes()) == ["9"]
    for args in (["show", TICKET], ["show", TICKET, "--json"], ["history", "--json"], ["tickets"]):
        await place.watcher(*args, ends=0)
