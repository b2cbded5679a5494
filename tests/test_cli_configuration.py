"""The command line: what is said of a watcher.yaml."""

import io
import time

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from tests.place import EVERYTHING, ROOT, TICKET, Place, an_old_conversation

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
