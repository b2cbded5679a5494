"""The command line as scripts rely on it: the real command, a real simulator, a real receiver."""

import re
import sys
import time

import aiohttp
import anyio
import pytest

from tests.place import CEILING_S, HOUR, INSTANT, OTHER, TICKET, Place, an_old_conversation, until
from watcher.simulator import Fault

# --- exit statuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [["run", "--twice"], ["fly"], ["show"], ["history", "--state", "lost"], ["replay", "msg_x", "--sink", "nowhere"]],
)
async def test_wrong_usage_ends_with_2(place: Place, args: list[str]) -> None:
    done = await place.watcher(*args, ends=2)
    assert "Error" in done.err
    assert not done.out


@pytest.mark.parametrize("args", [["run"], ["run", "--once"], ["check"], ["tickets"], ["history"], ["show", "T"]])
async def test_a_missing_configuration_ends_with_78_and_says_where_it_was_looked_for(
    place: Place, args: list[str]
) -> None:
    (place.folder / "watcher.yaml").unlink()
    done = await place.watcher(*args, ends=78)
    assert "watcher.yaml" in done.err
    assert "--config" in done.err
    named = await place.watcher(*args, "-c", "not/there.yaml", ends=78)
    assert "not/there.yaml" in named.err


async def test_a_bad_configuration_ends_every_command_with_78(place: Place) -> None:
    place.write("watcher.yaml", "version: 1\naccounts: {main: {}}\nsink: {}\n")
    for args in (["run"], ["run", "--once"], ["check"], ["tickets"], ["history"], ["replay", "msg_x"]):
        done = await place.watcher(*args, ends=78)
        assert "watcher.yaml:3:1 sink: unknown key; did you mean `sinks`?" in done.err


async def test_a_secret_that_is_not_there_ends_a_run_with_78_and_its_place(place: Place) -> None:
    del place.environ["SIGNING"]
    done = await place.watcher("run", "--once", ends=78)
    assert re.search(r"watcher\.yaml:\d+:\d+ sinks\.hub\.sign\[0\]: .*SIGNING", done.err)


async def test_a_round_over_unchanged_tickets_delivers_once_and_ends_with_0(place: Place) -> None:
    an_old_conversation(place.world)
    note = place.world.agent_reply(TICKET, "The balance was too low.", at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)
    assert list(place.receiver.notes()) == [str(note)]
    again = await place.watcher("run", "--once", ends=0)
    assert len(place.receiver.got) == 1
    assert not again.out


async def test_a_reply_between_two_rounds_is_delivered_by_the_second(place: Place) -> None:
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    assert not place.receiver.got
    note = place.world.agent_reply(TICKET, "It works now.")
    await place.watcher("run", "--once", ends=0)
    [got] = place.receiver.got
    assert got.body["type"] == "watcher.note.created.v1"
    assert got.body["subject"] == f"tickets/{TICKET}/notes/{note}"
    assert got.body["data"]["ticket"]["title"] == "Why ECS renewal failed?"


async def test_a_failing_ticket_ends_a_round_with_1_and_is_named_beside_the_good_ones(place: Place) -> None:
    an_old_conversation(place.world)
    an_old_conversation(place.world, OTHER)
    note = place.world.agent_reply(OTHER, "Here.", at=time.time() - HOUR)
    place.world.inject(Fault(kind="status", action="ListTicketNotes", ticket=TICKET))
    done = await place.watcher("run", "--once", ends=1)
    assert re.search(rf"account main, ticket {TICKET}: \S.*", done.err)
    assert list(place.receiver.notes()) == [str(note)]


async def test_a_failing_sink_ends_a_round_with_1_and_the_next_round_delivers_under_the_same_id(place: Place) -> None:
    place.configure(sinks=place.webhook() + place.webhook("good"))
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    place.receiver.answers["/hub"] = 500
    done = await place.watcher("run", "--once", ends=1)
    assert "sink hub" in done.err
    assert "HTTP 500" in done.err
    assert len(place.receiver.at("/good")) == 1
    place.receiver.answers.clear()
    deliveries = (await place.watcher("history", "--json", "--sink", "hub", ends=0)).json
    assert [each["state"] for each in deliveries] == ["due"]
    # The next attempt is due after 200 ms, less than the start of the command takes.
    await place.watcher("run", "--once", ends=0)
    first, second = place.receiver.at("/hub")
    assert first.id == second.id
    assert len(place.receiver.at("/good")) == 1


async def test_a_refused_key_ends_a_round_with_1_and_names_the_account(place: Place) -> None:
    an_old_conversation(place.world)
    done = await place.watcher("run", "--once", ends=1, environ={"KEY_SECRET": "wrong"})
    assert "account main" in done.err
    assert "check the access key secret" in done.err


async def test_an_api_that_nobody_serves_ends_a_round_with_1(place: Place) -> None:
    place.configure(watches=f"watches: {{mine: {{tickets: [{TICKET}]}}}}")
    text = (place.folder / "watcher.yaml").read_text()
    place.write("watcher.yaml", text.replace(place.simulator.url, "http://127.0.0.1:9"))
    done = await place.watcher("run", "--once", ends=1)
    assert f"account main, ticket {TICKET}" in done.err


# --- what scripts read ------------------------------------------------------------------------------------


async def test_tickets_and_history_have_the_keys_of_the_contract(place: Place) -> None:
    an_old_conversation(place.world)
    note = place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)

    [ticket] = (await place.watcher("tickets", "--json", ends=0)).json
    assert list(ticket) == [
        *("account", "ticket", "watch", "title", "status", "unread", "notes", "last_note_at", "last_poll_at", "error")
    ]
    assert {key: ticket[key] for key in ("account", "ticket", "watch", "title", "status", "error")} == {
        "account": "main",
        "ticket": TICKET,
        "watch": "everything",
        "title": "Why ECS renewal failed?",
        "status": "wait_feedback",
        "error": None,
    }
    assert (ticket["unread"], ticket["notes"]) == (1, 3)
    assert INSTANT.fullmatch(ticket["last_note_at"])
    assert INSTANT.fullmatch(ticket["last_poll_at"])

    [delivery] = (await place.watcher("history", "--json", ends=0)).json
    assert list(delivery) == [
        *("event", "type", "account", "ticket", "note", "sink", "state", "attempts"),
        *("created_at", "due_at", "delivered_at", "error", "receiver"),
    ]
    assert delivery["event"] == place.receiver.got[0].id
    assert delivery["type"] == place.receiver.got[0].body["type"]
    assert (delivery["ticket"], delivery["note"], delivery["sink"]) == (TICKET, str(note), "hub")
    assert (delivery["state"], delivery["attempts"], delivery["error"]) == ("delivered", 1, None)
    for key in ("created_at", "due_at", "delivered_at"):
        assert INSTANT.fullmatch(delivery[key]), key


async def test_before_the_first_run_the_lists_are_empty_and_nothing_is_made(place: Place) -> None:
    before = place.tree()
    for command in ("tickets", "history"):
        assert (await place.watcher(command, "--json", ends=0)).json == []
        assert (await place.watcher(command, ends=0)).out.strip()
    await place.watcher("show", TICKET, ends=1)
    await place.watcher("replay", "msg_x", ends=1)
    assert place.tree() == before


async def test_a_failed_poll_stands_in_the_list_of_tickets(place: Place) -> None:
    place.configure(watches=f"watches: {{mine: {{tickets: [{TICKET}, {OTHER}]}}}}")
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=1)
    rows = {row["ticket"]: row for row in (await place.watcher("tickets", "--json", ends=0)).json}
    assert rows[TICKET]["error"] is None
    assert rows[OTHER]["error"]
    assert INSTANT.fullmatch(rows[OTHER]["last_poll_at"])


async def test_a_delivery_that_failed_is_due_with_its_error(place: Place) -> None:
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    place.receiver.answers["/hub"] = 503
    await place.watcher("run", "--once", ends=1)
    [delivery] = (await place.watcher("history", "--json", ends=0)).json
    assert (delivery["state"], delivery["attempts"], delivery["delivered_at"]) == ("due", 1, None)
    assert "503" in delivery["error"]


async def test_a_receiver_that_is_gone_leaves_dead_deliveries_and_a_round_that_says_so(place: Place) -> None:
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    place.receiver.answers["/hub"] = 410
    done = await place.watcher("run", "--once", ends=1)
    assert "410" in done.err
    [delivery] = (await place.watcher("history", "--json", "--state", "dead", ends=0)).json
    assert delivery["state"] == "dead"


async def test_show_prints_the_conversation_and_where_it_was_announced(place: Place) -> None:
    an_old_conversation(place.world)
    note = place.world.agent_reply(TICKET, "您好 余额不足。", name="工程师 1024", at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)
    shown = await place.watcher("show", TICKET, ends=0)
    for part in ("Why ECS renewal failed?", "It failed.", "您好 余额不足。", "工程师 1024", "hub", "delivered"):
        assert part in shown.out
    [row] = (await place.watcher("show", TICKET, "--json", ends=0)).json
    assert row["ticket"] == TICKET
    assert [each["note"] for each in row["notes"]][-1] == str(note)
    assert all(INSTANT.fullmatch(each["created_at"]) for each in row["notes"])
    unknown = await place.watcher("show", "NOTTHERE", ends=1)
    assert "NOTTHERE" in unknown.err


# --- replay -----------------------------------------------------------------------------------------------


async def test_replay_sends_again_under_the_same_id_with_a_new_timestamp(place: Place) -> None:
    place.configure(sinks=place.webhook() + place.webhook("other"))
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)
    [first] = place.receiver.at("/hub")
    await until(lambda: time.time() >= int(first.headers["webhook-timestamp"]) + 1, "a second passes")
    done = await place.watcher("replay", first.id, "--sink", "hub", ends=0)
    assert "delivered" in done.out
    _, second = place.receiver.at("/hub")
    assert second.id == first.id == second.body["id"]
    assert second.body["data"]["reason"] == "replay"
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    assert len(place.receiver.at("/other")) == 1


async def test_replay_of_an_unknown_event_ends_with_1(place: Place) -> None:
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    done = await place.watcher("replay", "msg_never", ends=1)
    assert "msg_never" in done.err


async def test_a_replay_that_is_refused_ends_with_1(place: Place) -> None:
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)
    place.receiver.answers["/hub"] = 500
    done = await place.watcher("replay", place.receiver.got[0].id, ends=1)
    assert "500" in done.out + done.err


# --- dry run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_run_before", [False, True])
async def test_a_dry_run_prints_what_would_go_out_and_writes_and_sends_nothing(
    place: Place, has_run_before: bool
) -> None:
    place.configure(sinks=place.webhook() + "  file: {type: file, path: out/events.jsonl}\n")
    an_old_conversation(place.world)
    if has_run_before:
        await place.watcher("run", "--once", ends=0)
    place.world.agent_reply(TICKET, "A text to look for.", at=None if has_run_before else time.time() - HOUR)
    before = place.tree()
    done = await place.watcher("run", "--once", "--dry-run", ends=0)
    assert place.tree() == before
    assert not place.receiver.got
    assert "A text to look for." in done.out
    assert "hub" in done.out
    assert "file" in done.out
    await place.watcher("run", "--once", ends=0)
    assert len(place.receiver.got) == 1


# --- without an account -----------------------------------------------------------------------------------


async def test_the_demo_shows_polls_finds_and_deliveries_and_ends_by_itself(place: Place) -> None:
    done = await place.watcher("demo", "--seconds", "8", ends=0)
    for words in ("polled", "reply found", "delivered", "program received", "signature=good", "stopped"):
        assert words in done.err
    assert "replied:" in done.out


async def test_the_simulator_says_its_address_control_endpoint_and_key(place: Place) -> None:
    command = [sys.executable, "-m", "watcher", "simulator", "--port", "0"]
    async with await anyio.open_process(command, cwd=place.folder, env=place.environ) as process:
        try:
            said = ""
            assert process.stdout
            with anyio.fail_after(CEILING_S):
                while "secret" not in said:
                    said += (await process.stdout.receive()).decode()
            [control] = re.findall(r"http://\S+/_control", said)
            assert "key id simulator, secret simulator" in said
            async with aiohttp.ClientSession() as session, session.get(control) as response:
                assert response.status == 200
            process.terminate()
            with anyio.fail_after(CEILING_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()


@pytest.mark.parametrize(("host", "words"), [("127.0.0.1", "Address already in use"), ("nobody.invalid", "")])
async def test_a_simulator_that_cannot_listen_says_so_in_a_sentence(place: Place, host: str, words: str) -> None:
    port = place.simulator.url.rpartition(":")[2]
    done = await place.watcher("simulator", "--host", host, "--port", port, ends=1)
    assert done.err.startswith(f"cannot listen on {host}:{port}: {words}")
    assert done.err.endswith("; see --host and --port\n")
