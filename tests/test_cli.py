"""The command line as scripts rely on it: the real command, a real simulator, a real receiver."""

import io
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from aiohttp import web

from watcher.simulator import Account, Fault, Key, Simulator, World, open_simulator

ROOT = Path(__file__).parent.parent
CEILING_S = 60.0
TICKET, OTHER = "0005PYGCW", "001571BTXC"
HOUR = 3600.0
SIGNING = "whsec_dGVzdHMtb25seS1ub3QtYS1zZWNyZXQtYXQtYWxs"
# Values that must not be seen anywhere outside the request that they sign.
CANARY_KEY, CANARY_HOOK, CANARY_PATH = "CanarySecretOfTheKey", "Y2FuYXJ5LXNlY3JldC1vZi10aGUtaG9vaw==", "canary-in-path"

CONFIG = """\
version: 1
accounts:
  main:
    endpoint: {api}
    auth: {auth}
    quota: 1000/s
defaults:
  poll: {{interval: 200ms, jitter: 0%}}
  retry: {{schedule: [200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 5s, 5s, 5s]}}
{watches}
sinks:
{sinks}
storage: {{path: state/watcher.db}}
"""
BY_ENVIRONMENT = "{type: access_key, access_key_id: simulator, access_key_secret: {env: KEY_SECRET}}"
EVERYTHING = "watches: {everything: {discover: {status: open, every: 300ms}}}"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


async def until(condition: Callable[[], object], what: str, *, within: float = CEILING_S) -> None:
    """Wait until the condition holds; fail with ``what`` did not happen."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {within:g} s: {what}")
        await anyio.sleep(0.02)


@dataclass
class Got:
    """One request that came in."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def singles(self) -> list[dict[str, Any]]:
        """The events that the request tells, a digest's members one by one."""
        return list(self.body["data"].get("events") or [self.body])

    @property
    def notes(self) -> dict[str, str]:
        return {single["data"]["note"]["id"]: single["id"] for single in self.singles}


@dataclass
class Receiver:
    """Takes webhooks; ``answer`` decides what each path gets, and may take its time."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    open_calls: int = 0
    before_answer: Callable[[], None] = lambda: None
    let_go: anyio.Event = field(default_factory=anyio.Event)

    def at(self, path: str) -> list[Got]:
        return [got for got in self.got if got.path == path]

    def notes(self, path: str = "/hub") -> dict[str, set[str]]:
        """Return each note that arrived, with the ids under which it did."""
        found: dict[str, set[str]] = {}
        for got in self.at(path):
            for note, event in got.notes.items():
                found.setdefault(note, set()).add(event)
        return found

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append(Got(request.path, dict(request.headers), json.loads(await request.read())))
        if request.path in self.hanging:
            self.open_calls += 1
            try:
                await self.let_go.wait()
            finally:
                self.open_calls -= 1
        self.before_answer()
        return web.Response(status=self.answers.get(request.path, 204))

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Receiver"]:
        app = web.Application()
        app.router.add_post("/{name}", self._take)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Place:
    """A folder with a watcher.yaml, the world that it watches, and the receiver that it tells."""

    folder: Path
    simulator: Simulator
    receiver: Receiver
    environ: dict[str, str]

    @property
    def world(self) -> World:
        return self.simulator.world

    @property
    def database(self) -> Path:
        return self.folder / "state" / "watcher.db"

    def webhook(self, name: str = "hub", **more: str) -> str:
        extra = "".join(f", {key}: {value}" for key, value in more.items())
        return f"  {name}: {{type: webhook, url: {self.receiver.url}/{name}, sign: [{{env: SIGNING}}]{extra}}}\n"

    def configure(self, *, sinks: str = "", watches: str = EVERYTHING, auth: str = BY_ENVIRONMENT) -> None:
        text = CONFIG.format(api=self.simulator.url, auth=auth, watches=watches, sinks=sinks or self.webhook())
        self.write("watcher.yaml", text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    async def watcher(self, *args: str, ends: int | None = None, environ: Mapping[str, str] | None = None) -> Done:
        """Run the command in the folder; it must end with status ``ends`` and never show a traceback."""
        with anyio.fail_after(CEILING_S):
            done = await anyio.run_process(
                [sys.executable, "-m", "watcher", *args],
                cwd=self.folder,
                env=self.environ | dict(environ or {}),
                check=False,
            )
        result = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in result.out + result.err, result.err
        if ends is not None:
            assert result.status == ends, f"{args}: status {result.status}\n{result.out}\n{result.err}"
        return result

    def tree(self) -> dict[str, bytes]:
        """Return every file under the folder with what it holds, and its time of change."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() + str(path.stat().st_mtime_ns).encode()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        } | {str(path.relative_to(self.folder)): b"/" for path in self.folder.rglob("*") if path.is_dir()}


def clean_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "KEY_SECRET": "simulator",
        "SIGNING": SIGNING,
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        "PYTHONWARNINGS": "error",
        "TZ": "Asia/Shanghai",
    }


@asynccontextmanager
async def a_place(folder: Path, world: World | None = None) -> AsyncIterator[Place]:
    async with open_simulator(world or World()) as simulator, Receiver().open() as receiver:
        place = Place(folder, simulator, receiver, clean_environment(folder))
        place.configure()
        yield place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path) as made:
        yield made


def an_old_conversation(world: World, ticket: str = TICKET, title: str = "Why ECS renewal failed?") -> None:
    """Add a ticket whose notes are all read."""
    world.add_ticket(ticket, title=title, at=time.time() - 5 * HOUR)
    world.customer_reply(ticket, "It failed.", at=time.time() - 4 * HOUR)
    world.agent_reply(ticket, "Please try again.", read=True, at=time.time() - 3 * HOUR)


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


# --- credentials ------------------------------------------------------------------------------------------


def _by_environment(place: Place) -> None:
    place.configure(auth="{type: chain}")
    place.environ |= {"ALIBABA_CLOUD_ACCESS_KEY_ID": "simulator", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "simulator"}


def _by_profile(place: Place) -> None:
    place.configure(auth="{type: chain}")
    key = {"name": "me", "mode": "AK", "access_key_id": "simulator", "access_key_secret": "simulator"}
    place.write(".aliyun/config.json", json.dumps({"current": "me", "profiles": [{"name": "x", "mode": "AK"}, key]}))


def _by_named_profile(place: Place) -> None:
    _by_profile(place)
    place.configure(auth="{type: chain, profile: me}")
    file = place.folder / ".aliyun" / "config.json"
    file.write_text(file.read_text().replace('"current": "me"', '"current": "x"'))


def _by_ini_file(place: Place) -> None:
    place.configure(auth="{type: chain}")
    text = "[default]\ntype = access_key\naccess_key_id = simulator\naccess_key_secret = simulator\n"
    place.write(".alibabacloud/credentials.ini", text)


def _by_file(place: Place) -> None:
    path = place.write("secret.txt", "simulator\n")
    place.configure(auth=f"{{type: access_key, access_key_id: simulator, access_key_secret: {{file: {path}}}}}")


def _by_credential(place: Place) -> None:
    place.write("credentials/ak", "simulator\n")
    place.environ["CREDENTIALS_DIRECTORY"] = str(place.folder / "credentials")
    place.configure(auth="{type: access_key, access_key_id: simulator, access_key_secret: {credential: ak}}")


def _by_command(place: Place) -> None:
    place.configure(
        auth="{type: access_key, access_key_id: {command: [echo, simulator]},"
        " access_key_secret: {command: [printf, simulator]}}"
    )


def _by_security_token(place: Place) -> None:
    place.world.add_account(Account(name="sts", uid="5", keys=[Key(id="STS.x", secret="y", token="z")]))
    place.world.add_ticket("STSTICKET", uid="5")
    place.world.agent_reply("STSTICKET", "Here.", at=time.time() - HOUR)
    place.environ |= {"SECRET": "y", "TOKEN": "z"}
    place.configure(
        auth="{type: access_key, access_key_id: STS.x, access_key_secret: {env: SECRET}, security_token: {env: TOKEN}}"
    )


@pytest.mark.parametrize(
    "arrange",
    [
        _by_environment,
        _by_profile,
        _by_named_profile,
        _by_ini_file,
        _by_file,
        _by_credential,
        _by_command,
        _by_security_token,
    ],
)
async def test_credentials_come_from_every_place_that_may_hold_them(
    place: Place, arrange: Callable[[Place], None]
) -> None:
    an_old_conversation(place.world)
    place.world.agent_reply(TICKET, "Here.", at=time.time() - HOUR)
    arrange(place)
    await place.watcher("check", ends=0)
    await place.watcher("run", "--once", ends=0)
    assert len(place.receiver.got) == 1


async def test_without_any_credentials_a_round_ends_with_1_and_says_what_to_write(place: Place) -> None:
    place.configure(auth="{type: chain}")
    done = await place.watcher("run", "--once", ends=1)
    assert "account main" in done.err
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in done.err


async def test_secrets_are_seen_nowhere(place: Place) -> None:
    key = Key(id="CanaryKeyId", secret=CANARY_KEY)
    place.world.add_account(Account(name="canary", uid="7", keys=[key]))
    place.world.add_ticket("CANARYTKT", title="A ticket", uid="7")
    place.world.agent_reply("CANARYTKT", "Here.", attachments=["a.log"], at=time.time() - HOUR)
    place.environ |= {
        "KEY_SECRET": CANARY_KEY,
        "SIGNING": f"whsec_{CANARY_HOOK}",
        "HOOK": f"{place.receiver.url}/{CANARY_PATH}",
        "LOST": f"http://127.0.0.1:9/{CANARY_PATH}",
    }
    place.configure(
        auth="{type: access_key, access_key_id: CanaryKeyId, access_key_secret: {env: KEY_SECRET}}",
        sinks="  hub: {type: webhook, url: {env: HOOK}, sign: [{env: SIGNING}]}\n"
        "  lost: {type: webhook, url: {env: LOST}, sign: [{env: SIGNING}]}\n",
    )
    place.receiver.answers[f"/{CANARY_PATH}"] = 500
    said = []
    for args in (
        ["check"],
        ["run", "--once", "-v"],
        ["run", "--once", "--dry-run"],
        ["tickets"],
        ["history"],
        ["show", "CANARYTKT"],
        ["tickets", "--json"],
        ["history", "--json"],
        ["show", "CANARYTKT", "--json"],
    ):
        done = await place.watcher(*args)
        said.append(done.out + done.err)
    place.environ["KEY_SECRET"] += "-wrong"
    refused = await place.watcher("run", "--once", "-v", ends=1)
    said += [refused.out, refused.err]
    kept = b"".join(path.read_bytes() for path in (place.folder / "state").iterdir())
    assert place.receiver.got
    for canary in (CANARY_KEY, CANARY_HOOK, CANARY_PATH):
        assert not [text for text in said if canary in text], canary
        assert canary.encode() not in kept


# --- the configuration ------------------------------------------------------------------------------------

MISTAKEN = """\
version: 1
accounts:
  prod:
    site: de
    quota: fast
    endpoint: http://workorder.example
    auth: {type: access_key, access_key_id: LTAI, access_key_secret: bare}
  other:
    auth: {type: acces_key}
defaults:
  poll: {interval: 1 minute, jitter: lots}
  first_run: all
  timezone: Asia/Shangai
  to: [hub, hup]
watches:
  one: {account: prd, tickets: []}
  two: {account: prod, discover: {status: [opn]}}
  three: {tickets: [A]}
sinks:
  hub:
    type: webhook
    url: ftp://x
    sign: bare
    time_out: 3s
  file: {type: file}
  hub: {type: console}
  mail: {type: emial}
wachtes: {}
storage: {path: [a]}
"""

# Line, column, key, and a part of what is said.
MISTAKES = [
    (4, 11, "accounts.prod.site", "`de`"),
    (5, 12, "accounts.prod.quota", "5/s"),
    (6, 15, "accounts.prod.endpoint", "https"),
    (7, 70, "accounts.prod.auth.access_key_secret", "{env: NAME}"),
    (9, 18, "accounts.other.auth.type", "did you mean `access_key`?"),
    (11, 20, "defaults.poll.interval", "`1m`"),
    (11, 38, "defaults.poll.jitter", "10%"),
    (12, 14, "defaults.first_run", "unread"),
    (13, 13, "defaults.timezone", "Asia/Shanghai"),
    (14, 13, "defaults.to[1]", "did you mean `hub`?"),
    (16, 18, "watches.one.account", "did you mean `prod`?"),
    (16, 32, "watches.one.tickets", "must hold at least one entry"),
    (17, 44, "watches.two.discover.status[0]", "`opn`"),
    (18, 3, "watches.three.account", "is missing"),
    (22, 10, "sinks.hub.url", "http"),
    (23, 11, "sinks.hub.sign", "{env: NAME}"),
    (24, 5, "sinks.hub.time_out", "did you mean `timeout`?"),
    (25, 9, "sinks.file.path", "is missing"),
    (26, 3, "sinks.hub", "twice"),
    (27, 16, "sinks.mail.type", "`emial`"),
    (28, 1, "wachtes", "did you mean `watches`?"),
    (29, 17, "storage.path", "single value"),
]


async def test_check_says_every_mistake_at_once_with_its_place(place: Place) -> None:
    place.write("watcher.yaml", MISTAKEN)
    done = await place.watcher("check", ends=78)
    lines = done.err.splitlines()
    missing = [
        (line, column, key, words, [each for each in lines if f" {key}: " in each or f":{line}:" in each])
        for line, column, key, words in MISTAKES
        if not any(each.startswith(f"watcher.yaml:{line}:{column} {key}: ") and words in each for each in lines)
    ]
    assert not missing


async def test_check_says_no_mistake_that_is_none(place: Place) -> None:
    place.write("watcher.yaml", MISTAKEN)
    problems = (await place.watcher("check", "--json", ends=78)).json
    said = {(problem["line"], problem["key"]) for problem in problems}
    assert said <= {(line, key) for line, _, key, _ in MISTAKES}


async def test_check_speaks_json_to_programs(place: Place) -> None:
    assert (await place.watcher("check", "--json", ends=0)).json == []
    place.write("watcher.yaml", "version: 1\naccounts: {main: {}}\nsinks: {me: {type: console, contnt: full}}\n")
    [problem] = (await place.watcher("check", "--json", ends=78)).json
    assert list(problem) == ["file", "line", "column", "key", "message", "severity"]
    assert (problem["file"], problem["line"], problem["column"]) == ("watcher.yaml", 3, 29)
    assert (problem["key"], problem["severity"]) == ("sinks.me.contnt", "error")


async def test_check_json_speaks_json_of_a_file_that_is_not_there(place: Place) -> None:
    done = await place.watcher("check", "--json", "-c", "nowhere.yaml", ends=78)
    [problem] = done.json
    assert problem["file"] == "nowhere.yaml"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe\x00\x01\x02", "UTF-8"),
        (b"a: [1, 2\nb: }", "not valid YAML"),
        (b"accounts:\n\tmain: {}\n", "not valid YAML"),
        (b"version: 1\naccounts: !!python/object/apply:os.system [id]\n", "tag"),
        (b"- just\n- a list\n", "map"),
        (b"", "missing"),
        (b"version: 1\n---\nversion: 1\n", "not valid YAML"),
        (b"x" * (5 * 1024 * 1024), "larger"),
        (b"a: " + b"[" * 5000, "not valid YAML"),
        (b"version: 1\x00\n", "not valid YAML"),
    ],
    ids=["binary", "broken", "tab", "tag", "list", "empty", "two documents", "huge", "deep", "nul"],
)
async def test_a_file_that_is_no_configuration_is_refused_in_a_sentence(
    place: Place, content: bytes, words: str
) -> None:
    (place.folder / "watcher.yaml").write_bytes(content)
    done = await place.watcher("check", ends=78)
    assert words in done.err
    assert "watcher.yaml" in done.err
    assert len(done.err) < 2000


@pytest.mark.parametrize(
    "bomb",
    [
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)),
        "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
        "a: &a [*a]\n",
    ],
    ids=["merges", "aliases", "itself"],
)
async def test_a_bomb_is_refused_quickly(place: Place, bomb: str) -> None:
    place.write("watcher.yaml", bomb)
    started = time.monotonic()
    await place.watcher("check", ends=78)
    assert time.monotonic() - started < 20


async def test_scalars_stay_what_people_wrote(place: Place) -> None:
    for number in ("00051234", "22:00", "0x1F", "1e3"):
        an_old_conversation(place.world, number, title=f"Ticket {number}")
    place.configure(watches="watches: {mine: {tickets: [00051234, 22:00, 0x1F, 1e3], labels: {a: no, b: 010}}}")
    await place.watcher("run", "--once", ends=0)
    rows = (await place.watcher("tickets", "--json", ends=0)).json
    assert {row["ticket"] for row in rows} == {"00051234", "22:00", "0x1F", "1e3"}
    place.world.agent_reply("00051234", "Here.")
    await place.watcher("run", "--once", ends=0)
    assert place.receiver.got[0].body["data"]["labels"] == {"a": "no", "b": "010"}


async def test_included_files_are_merged_and_their_mistakes_are_theirs(place: Place) -> None:
    main = (place.folder / "watcher.yaml").read_text()
    text = main.replace("version: 1\n", "version: 1\ninclude: [conf.d/*.yaml]\n").replace(EVERYTHING, "")
    place.write("watcher.yaml", text)
    place.write("conf.d/20-sinks.yaml", place.webhook("second").join(["sinks:\n", ""]))
    place.write("conf.d/10-watches.yaml", f"watches: {{mine: {{tickets: [{TICKET}]}}}}\n")
    an_old_conversation(place.world)
    await place.watcher("check", ends=0)
    await place.watcher("run", "--once", ends=0)
    place.world.agent_reply(TICKET, "Here.")
    await place.watcher("run", "--once", ends=0)
    assert sorted(got.path for got in place.receiver.got) == ["/hub", "/second"]
    place.write("conf.d/30-more.yaml", "sinks:\n  hub: {type: console}\n  odd: {type: console, colour: red}\n")
    done = await place.watcher("check", ends=78)
    assert "conf.d/30-more.yaml:2:3 sinks.hub: stands twice" in done.err
    assert "conf.d/30-more.yaml:3:24 sinks.odd.colour: unknown key" in done.err


async def test_the_schema_accepts_the_configuration_of_the_project_and_refuses_a_mistake(place: Place) -> None:
    schema = (await place.watcher("schema", ends=0)).json
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    text = (ROOT / "watcher.yaml").read_text(encoding="utf-8")
    value = yaml.load(io.StringIO(text), Loader=yaml.BaseLoader)
    assert not list(validator.iter_errors(value))
    value["acounts"] = {}
    assert list(validator.iter_errors(value))


async def test_the_configuration_of_the_project_is_good(place: Place) -> None:
    done = await place.watcher("check", "-c", str(ROOT / "watcher.yaml"), ends=0)
    assert "good" in done.out


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
