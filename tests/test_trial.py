"""`watcher test` and `watcher preview`: the real commands, with and without a running daemon."""

import json
import signal
import sqlite3

import anyio
import pytest

from tests.place import CEILING_S, TICKET, Place, an_old_conversation, until
from tests.test_process import a_daemon
from watcher.model import Kind, Language
from watcher.sample import example
from watcher.words import words_in


async def deliveries(place: Place) -> list[tuple[str, str, str]]:
    rows = (await place.watcher("history", "--json", ends=0)).json
    return sorted((row["sink"], row["type"], row["state"]) for row in rows)


# --- test -------------------------------------------------------------------------------------------------


async def test_a_test_goes_the_way_of_every_message_and_is_marked_as_one(place: Place) -> None:
    done = await place.watcher("test", ends=0)
    assert done.out == "hub: delivered\n"
    (got,) = place.receiver.got
    assert got.body["type"] == "watcher.test.v1"
    assert got.body["data"]["reason"] == "test"
    assert got.body["data"]["account"]["name"] == "main"
    assert got.headers["webhook-signature"].startswith("v1,")
    assert await deliveries(place) == [("hub", "watcher.test.v1", "delivered")]


async def test_without_a_name_every_sink_is_tested_and_with_names_only_these(place: Place) -> None:
    place.configure(sinks=place.webhook() + place.webhook("other") + "  me: {type: console}\n")
    done = await place.watcher("test", "other", "me", ends=0)
    assert done.out.endswith("other: delivered\nme: delivered\n")
    assert "Test message of watcher" in done.out
    assert [got.path for got in place.receiver.got] == ["/other"]
    done = await place.watcher("test", ends=0)
    assert sorted(got.path for got in place.receiver.got) == ["/hub", "/other", "/other"]


async def test_each_test_is_a_new_one(place: Place) -> None:
    for _ in range(2):
        await place.watcher("test", ends=0)
    first, second = place.receiver.got
    assert first.id != second.id


async def test_what_happened_is_said_for_each_sink_and_a_failed_test_is_not_tried_again(place: Place) -> None:
    place.configure(sinks=place.webhook() + place.webhook("other"))
    place.receiver.answers["/other"] = 500
    done = await place.watcher("test", ends=1)
    assert done.out == "hub: delivered\nother: NOT delivered: HTTP 500, internal server error\n"
    assert not done.err
    assert await deliveries(place) == [("hub", "watcher.test.v1", "delivered"), ("other", "watcher.test.v1", "dead")]


async def test_a_sink_whose_secret_is_not_there_fails_alone(place: Place) -> None:
    place.configure(
        sinks=place.webhook() + f"  other: {{type: webhook, url: {place.receiver.url}, sign: {{env: NO}}}}\n"
    )
    done = await place.watcher("test", ends=1)
    assert done.out.startswith("hub: delivered\nother: NOT delivered: watcher.yaml:")
    assert "the environment variable NO is not set" in done.out


async def test_each_sink_gets_the_test_in_its_language(place: Place) -> None:
    place.configure(sinks="  en: {type: console}\n  zh: {type: console, language: zh}\n" + place.webhook())
    done = await place.watcher("test", ends=0)
    for language in Language:
        assert words_in(language).test_text in done.out
    assert place.receiver.got[0].body["data"]["ticket"]["title"] == words_in(Language.ENGLISH).test_title
    assert done.out.endswith("en: delivered\nzh: delivered\nhub: delivered\n")
    done = await place.watcher("preview", "--event", "test", "--sink", "zh", ends=0)
    assert words_in(Language.CHINESE).test_text in done.out


async def test_a_sink_that_is_switched_off_is_tried_and_switched_on_again(place: Place) -> None:
    place.receiver.answers["/hub"] = 410
    assert "410" in (await place.watcher("test", ends=1)).out
    del place.receiver.answers["/hub"]
    async with a_daemon(place) as daemon:
        await until(lambda: "started" in daemon.said, "the daemon starts")
        assert (await place.watcher("test", ends=0)).out == "hub: delivered\n"
        daemon.signal(signal.SIGTERM)
        await daemon.ends()
    place.receiver.answers["/hub"] = 410
    await place.watcher("test", ends=1)
    del place.receiver.answers["/hub"]
    assert (await place.watcher("test", ends=0)).out == "hub: delivered\n"
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    place.world.agent_reply(TICKET, "Please try again.")
    await place.watcher("run", "--once", ends=0)
    assert place.receiver.got[-1].body["type"] == "watcher.note.created.v1"


async def test_a_test_needs_no_credentials_and_asks_no_api(place: Place) -> None:
    await place.watcher("test", ends=0, environ={"KEY_SECRET": ""})
    assert len(place.receiver.got) == 1
    assert not place.world.calls


async def test_a_test_starts_no_first_day(place: Place) -> None:
    """What was written after a test but before the first run is older than the watch."""
    await place.watcher("test", ends=0)
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Read already.", read=True)
    await place.watcher("run", "--once", ends=0)
    assert [got.body["type"] for got in place.receiver.got] == ["watcher.test.v1"]


async def test_the_running_daemon_sends_the_test(place: Place) -> None:
    place.configure(sinks=place.webhook() + place.webhook("other"))
    place.receiver.answers["/other"] = 500
    async with a_daemon(place) as daemon:
        await until(lambda: "started" in daemon.said, "the daemon starts")
        done = await place.watcher("test", ends=1)
        assert done.out == "hub: delivered\nother: NOT delivered: HTTP 500, internal server error\n"
        assert "delivered" in daemon.said
        # Two retries later, were it tried again.
        await place.watcher("test", "hub", ends=0)
        assert [got.path for got in place.receiver.got].count("/other") == 1
        daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0


async def test_the_running_daemon_has_the_secrets_that_this_command_lacks(place: Place) -> None:
    """A unit's credentials are in no shell's environment."""
    async with a_daemon(place) as daemon:
        await until(lambda: "started" in daemon.said, "the daemon starts")
        done = await place.watcher("test", ends=0, environ={"SIGNING": "", "KEY_SECRET": ""})
        assert done.out == "hub: delivered\n"


async def test_a_sink_that_the_running_daemon_does_not_know_is_said(place: Place) -> None:
    async with a_daemon(place) as daemon:
        await until(lambda: "started" in daemon.said, "the daemon starts")
        text = (place.folder / "watcher.yaml").read_text()
        place.write("newer.yaml", text.replace("  hub:", "  new:"))
        store = sqlite3.connect(place.database)
        async with anyio.create_task_group() as group:
            group.start_soon(withdrawn_when_there, store)
            done = await place.watcher("test", "-c", "newer.yaml", ends=1)
        store.close()
        assert "new: NOT delivered: nobody waits so long" in done.out


async def withdrawn_when_there(store: sqlite3.Connection) -> None:
    """Do in the place of the time limit what comes at its end."""
    withdraw = "UPDATE delivery SET state = 'dead', error = 'nobody waits so long' WHERE sink = 'new'"
    with anyio.fail_after(CEILING_S):
        while not store.execute(withdraw).rowcount:
            store.commit()
            await anyio.sleep(0.1)
    store.commit()


async def test_nothing_in_a_preview_steers_the_terminal(place: Place) -> None:
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    place.world.agent_reply(TICKET, "\x1b]0;owned\x07 \u202e evil \x9b2J")
    await place.watcher("run", "--once", ends=0)
    (row,) = (await place.watcher("history", "--json", ends=0)).json
    place.configure(sinks="  me: {type: console}\n  log: {type: file, path: out}\n" + place.webhook())
    done = await place.watcher("preview", "--event", row["event"], ends=0)
    assert not set("\x1b\x07\x9b\u202e") & set(done.out)


async def test_an_unknown_sink_is_wrong_usage(place: Place) -> None:
    for args in (["test", "hub", "nowhere"], ["preview", "--sink", "nowhere"]):
        done = await place.watcher(*args, ends=2)
        assert "there is no sink named nowhere; there is hub" in done.err
    assert not place.receiver.got


# --- preview ----------------------------------------------------------------------------------------------


async def test_a_preview_shows_each_sink_and_changes_nothing(place: Place) -> None:
    place.configure(sinks=place.webhook() + "  me: {type: console, language: zh}\n")
    before = place.tree()
    done = await place.watcher("preview", ends=0, environ={"SIGNING": "", "KEY_SECRET": ""})
    assert "=== hub ===" in done.out
    assert "=== me ===\nAgent 1024 回复了：Why ECS renewal failed?\n" in done.out
    assert f"webhook-id: {example(Kind.REPLY).id}" in done.out
    assert place.tree() == before
    assert not place.receiver.got


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("reply", "Agent 1024 replied: Why ECS renewal failed?"),
        ("unread", "Unread reply of Agent 1024: Why ECS renewal failed?"),
        ("digest", "2 tickets have unread replies"),
        ("test", "Test message of watcher"),
    ],
)
async def test_every_kind_of_event_can_be_previewed(place: Place, kind: str, words: str) -> None:
    place.configure(sinks="  me: {type: console}\n")
    done = await place.watcher("preview", "--event", kind, ends=0)
    assert done.out.startswith(words + "\n")


async def test_an_event_of_the_history_can_be_previewed_as_another_sink_would_tell_it(place: Place) -> None:
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    place.world.agent_reply(TICKET, "It works now.")
    await place.watcher("run", "--once", ends=0)
    (row,) = (await place.watcher("history", "--json", ends=0)).json
    place.configure(sinks="  me: {type: file, path: out}\n")
    done = await place.watcher("preview", "--event", row["event"], ends=0)
    assert json.loads(done.out)["data"]["note"]["content"] == "It works now."


async def test_an_event_that_is_not_kept_is_said(place: Place) -> None:
    done = await place.watcher("preview", "--event", "msg_x", ends=1)
    assert "there is no event msg_x; `watcher history` lists those that are kept" in done.err
