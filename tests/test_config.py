"""watcher.yaml: what is read, what is refused, and where each problem stands."""

import re
from datetime import timedelta
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from watcher.assemble import address_of
from watcher.config import sinks
from watcher.config.load import Config, find, load
from watcher.config.schema import ConfigModel
from watcher.config.secrets import Secret, Vault
from watcher.document import ProblemsFound
from watcher.errors import ConfigError
from watcher.model import Content, FirstRun, TicketStatus

ROOT = Path(__file__).parent.parent
MINIMAL = "version: 1\naccounts: {main: {}}\nsinks: {me: {type: console}}\n"


def read(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "watcher.yaml"
    file.write_text(text)
    return load(file, environ)


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """Return what is wrong with the text, without the folder before each line."""
    with pytest.raises(ProblemsFound) as found:
        read(tmp_path, text, **environ)
    return [str(problem).removeprefix(f"{tmp_path}/") for problem in found.value.problems]


# --- what is read -----------------------------------------------------------------------------------------


def test_the_projects_own_file_loads_without_any_environment() -> None:
    config = load(ROOT / "watcher.yaml", {})
    assert config.model.defaults.poll.interval == timedelta(seconds=60)
    assert config.absent_secrets() == []


def test_every_example_in_the_projects_own_file_loads_too(tmp_path: Path) -> None:
    text = (ROOT / "watcher.yaml").read_text()
    for example in ("region", "quota", "proxy", "ticket_url", "migration", "archive", "hub", "to:"):
        assert f"# {example}" in text
    uncommented = [
        line.replace("  # ", "  ", 1).replace("# include", "include")
        if line.lstrip().startswith(("# ", "#   "))
        and line.startswith("  #")
        and not line.lstrip().startswith(
            ("# Instead", "#   auth", "#     type", "#     access", "# endpoint", "# path")
        )
        else line
        for line in text.splitlines()
    ]
    config = read(tmp_path, "\n".join(uncommented))
    assert {sink.type for sink in config.model.sinks.values()} == {
        *("console", "file", "email", "webhook", "desktop", "dingtalk"),
        *("slack", "telegram", "ntfy", "apprise", "exec"),
    }
    assert config.model.watches["migration"].tickets == ["0005PYGCW", "00051234"]


def test_the_schema_accepts_what_is_accepted_and_every_example(tmp_path: Path) -> None:
    text = (ROOT / "watcher.yaml").read_text()
    sinks = text[
        text.index("\nsinks:") : text.index(
            "# ----------------------------------------------------------------- service"
        )
    ]
    examples = re.sub(r"^  # ", "  ", sinks, flags=re.MULTILINE)
    further = """
      a: {type: telegram, token: {env: T}, chat: -100123}
      b: {type: dingtalk, webhook: {env: T}, mention: 13800000000}
      c: {type: webhook, url: https://x/, headers: {X-N: 5, Authorization: {env: T}}, sign: {env: T}}
      d: {type: exec, command: [sleep, 5], env: {N: 5}}
    """
    schema = ConfigModel.model_json_schema(by_alias=True)
    for document in (
        text,
        f"version: 1\naccounts: {{a: }}\n{examples}",
        f"version: 1\naccounts: {{a: {{}}}}\nsinks:{further}",
    ):
        load_file = tmp_path / "watcher.yaml"
        load_file.write_text(document)
        load(load_file, {})
        value = yaml.safe_load(document)
        value["accounts"] = {name: account or {} for name, account in value["accounts"].items()}
        assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(value)] == []


def test_the_smallest_file_watches_every_open_ticket_of_every_account(tmp_path: Path) -> None:
    config = read(tmp_path, "version: 1\naccounts: {a: {}, b: }\nsinks: {me: {type: console}}\n")
    assert list(config.watches) == ["a", "b"]
    assert [config.account_of(watch) for watch in config.watches.values()] == ["a", "b"]
    assert config.model.defaults.first_run is FirstRun.UNREAD
    assert config.model.defaults.content is Content.EXCERPT


@pytest.mark.parametrize("number", ["00051234", "00012E5", "0005PYGCW", "1_000", "0x1F", "1:30", "no", "12345678901"])
def test_a_ticket_number_is_never_taken_for_a_number(tmp_path: Path, number: str) -> None:
    config = read(tmp_path, MINIMAL + f"watches: {{w: {{tickets: [{number}]}}}}\n")
    assert config.model.watches["w"].tickets == [number]


def test_one_value_may_stand_for_a_list_of_one(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL + "watches: {w: {tickets: 0005PYGCW}}\ndefaults: {to: me}\n")
    assert config.model.watches["w"].tickets == ["0005PYGCW"]
    assert config.model.defaults.to == ["me"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("2 h", 7200), ("1.5h", 5400)]
)
def test_durations(tmp_path: Path, text: str, seconds: float) -> None:
    config = read(tmp_path, MINIMAL + f"defaults: {{poll: {{interval: {text}}}}}\n")
    assert config.model.defaults.poll.interval == timedelta(seconds=seconds)


def test_open_is_short_for_every_status_but_confirmed(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL + "watches: {w: {discover: {status: open}}}\n")
    discover = config.model.watches["w"].discover
    assert discover
    assert TicketStatus.CONFIRMED not in discover.status
    assert len(discover.status) == 5


@pytest.mark.parametrize(
    ("account", "address"),
    [
        ("{}", "https://workorder.aliyuncs.com"),
        ("{site: intl}", "https://workorder.ap-southeast-1.aliyuncs.com"),
        ("{region: ap-northeast-1}", "https://workorder.ap-northeast-1.aliyuncs.com"),
        ("{endpoint: 'http://127.0.0.1:8080'}", "http://127.0.0.1:8080"),
        ("{endpoint: 'http://[::1]:8080'}", "http://[::1]:8080"),
        ("{endpoint: 'https://gateway.corp.example'}", "https://gateway.corp.example"),
    ],
)
def test_endpoints(tmp_path: Path, account: str, address: str) -> None:
    config = read(tmp_path, f"version: 1\naccounts: {{main: {account}}}\nsinks: {{me: {{type: console}}}}\n")
    assert address_of(config.model.accounts["main"]) == address


def test_variables_are_filled_in_after_the_file_was_read(tmp_path: Path) -> None:
    text = MINIMAL + 'storage: {path: "${DIR:-/var/lib/x}/a#b $$5 ${EMPTY:-none}"}\n'
    assert str(read(tmp_path, text).model.storage.path) == "/var/lib/x/a#b $5 none"
    # A value that looks like YAML stays a value.
    hostile = read(tmp_path, text, DIR="x: [y", EMPTY="")
    assert str(hostile.model.storage.path) == "x: [y/a#b $5 none"


def test_included_files_are_merged_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "10-a.yaml").write_text("sinks: {log: {type: file, path: a.jsonl}}\n")
    (folder / "20-b.yaml").write_text("watches: {w: {tickets: [X]}}\ndefaults: {content: full}\n")
    config = read(tmp_path, MINIMAL + "include: [conf.d/*.yaml]\n")
    assert list(config.model.sinks) == ["me", "log"]
    assert config.model.defaults.content is Content.FULL


# --- what is refused, and where ---------------------------------------------------------------------------

REFUSALS = [
    ("accounts: {main: {}}\nsinks: {me: {type: console}}", "watcher.yaml:1:1 version: is missing; it must be given"),
    (MINIMAL.replace("1", "2"), "watcher.yaml:1:10 version: `2` is not possible here; choose from: 1"),
    (MINIMAL + "watchs: {}", "watcher.yaml:4:1 watchs: unknown key; did you mean `watches`?"),
    (MINIMAL + "routes: []", "watcher.yaml:4:1 routes: this version does not know it yet; leave it out"),
    (
        MINIMAL + "watches:\n  w:\n    tikets: [1]",
        "watcher.yaml:6:5 watches.w.tikets: unknown key; did you mean `tickets`?",
    ),
    (
        MINIMAL + "watches: {w: {account: man}}",
        "watcher.yaml:4:24 watches.w.account: there is no account named `man`; did you mean `main`?",
    ),
    (
        MINIMAL + "defaults: {to: [you]}",
        "watcher.yaml:4:17 defaults.to[0]: there is no sink named `you`; choose from: me",
    ),
    (
        MINIMAL + "defaults: {poll: {interval: 4 hours}}",
        "watcher.yaml:4:29 defaults.poll.interval: `4 hours` is not a duration; write for example `4h` (units:",
    ),
    (
        MINIMAL + "defaults: {poll: {interval: 0s}}",
        "watcher.yaml:4:29 defaults.poll.interval: must be longer than nothing; write for example `60s`",
    ),
    (
        MINIMAL + "defaults: {poll: {jitter: 10}}",
        "watcher.yaml:4:27 defaults.poll.jitter: `10` is not a share; write for example `10%`",
    ),
    (
        MINIMAL + "defaults: {timezone: Mars}",
        "watcher.yaml:4:22 defaults.timezone: `Mars` is not a time zone; write for example `Asia/Shanghai` or `UTC`",
    ),
    (
        MINIMAL + "watches: {w: {discover: {status: [opne]}}}",
        "watcher.yaml:4:35 watches.w.discover.status[0]: `opne` is not possible here; did you mean `open`?",
    ),
    (
        MINIMAL.replace("main: {}", "main: {quota: 5}"),
        "watcher.yaml:2:26 accounts.main.quota: `5` is not a rate; write for example `5/s` or `100/min`",
    ),
    (
        MINIMAL.replace("main: {}", "main: {endpoint: 'http://example.com'}"),
        "watcher.yaml:2:29 accounts.main.endpoint: plain http is allowed only to a loopback address; write https",
    ),
    *(
        (
            MINIMAL.replace("console", given),
            f"watcher.yaml:3:20 sinks.me.type: `{given}` is not known; did you mean `{meant}`?",
        )
        for given, meant in (("dingding", "dingtalk"), ("Lark", "feishu"), ("smtp", "email"), ("wechat", "wecom"))
    ),
    (
        MINIMAL.replace("{type: console}", "{type: email, smtp: {host: x}, from: a@b.c, to: d@e.f, max_size: 100MB}"),
        "watcher.yaml:3:78 sinks.me.max_size: no mail server takes so much; write `50MB` or less",
    ),
    (
        MINIMAL.replace("{type: console}", "{type: file, path: ''}"),
        "watcher.yaml:3:32 sinks.me.path: is empty; it needs a value",
    ),
    (
        MINIMAL.replace("{type: console}", "{type: exec, command: /x/page --urgent}"),
        "watcher.yaml:3:35 sinks.me.command: no shell is involved; write a list: [/x/page, --urgent]",
    ),
    (
        MINIMAL.replace("console", "emial"),
        "watcher.yaml:3:20 sinks.me.type: `emial` is not known; did you mean `email`?",
    ),
    (
        MINIMAL.replace("{type: console}", "{url: 'https://x'}"),
        (
            "watcher.yaml:3:13 sinks.me.type: is missing; choose from: console, file, webhook, email, desktop, "
            "dingtalk, feishu, wecom, slack, telegram, ntfy, apprise, exec"
        ),
    ),
    (
        MINIMAL.replace("{type: console}", "{type: webhook, url: 'https://x', sign: [plain]}"),
        "watcher.yaml:3:54 sinks.me.sign[0]: a secret never stands in this file; write {env: NAME}, {file:",
    ),
    (
        MINIMAL.replace("{type: console}", "{type: webhook, url: 'https://x', sign: [{env: A, file: b}]}"),
        "watcher.yaml:3:54 sinks.me.sign[0]: write exactly one of env, file, credential, command",
    ),
    (
        MINIMAL.replace("{type: console}", "{type: webhook, url: 'https://x', headers: {webhook-id: x}}"),
        "watcher.yaml:3:56 sinks.me.headers: `webhook-id` is set by the watcher itself",
    ),
    (
        MINIMAL.replace("{type: console}", "[]"),
        "watcher.yaml:3:13 sinks.me: must be a map of keys and values",
    ),
    (MINIMAL + "sinks: {}", "watcher.yaml:4:1 sinks: stands twice in the same place; the first is in line 3"),
    (
        MINIMAL + "log: {level: !!python/name:os.system x}",
        "watcher.yaml:4:14 log.level: the tag `!!python/name:os.system`",
    ),
    (MINIMAL + "log: {level: !secret x}", "watcher.yaml:4:14 log.level: the tag `!secret` is not known here"),
    (MINIMAL + "log: {<<: {level: info}}", "watcher.yaml:4:7 log: merge keys (<<) are not supported"),
    (MINIMAL + "log: &a {level: *a}", "watcher.yaml:4:6 log.level: the alias contains itself"),
    (MINIMAL + "log: {level: *nowhere}", "watcher.yaml:4:14 not valid YAML: found undefined alias 'nowhere'"),
    (
        MINIMAL + "log:\n\tlevel: info",
        "watcher.yaml:5:1 not valid YAML: found character '\\t'",
    ),
    (
        MINIMAL + "log: {level: 'info}",
        "watcher.yaml:4:20 not valid YAML: found unexpected end of stream while scanning a quoted scalar",
    ),
    (
        MINIMAL + "storage:\n  path: ${NOWHERE}/x",
        "watcher.yaml:5:9 storage.path: the environment variable NOWHERE is not set; set it, or",
    ),
    (
        MINIMAL + "storage: {path: ${HOME}/x}",
        "watcher.yaml:4:18 not valid YAML: expected ',' or '}', but got '{' while parsing a flow mapping; inside",
    ),
    ("- a\n- b\n", "watcher.yaml:1:1 must be a map of keys and values"),
    ("", "watcher.yaml:1:1 accounts: is missing; it must be given"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSALS, ids=[expected[:60] for _, expected in REFUSALS])
def test_a_refusal_names_the_place_the_key_and_the_remedy(tmp_path: Path, text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(tmp_path, text)), problems(tmp_path, text)


def test_tabs_and_unquoted_variables_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tab,) = problems(tmp_path, MINIMAL + "log:\n\tlevel: info")
    assert tab.endswith("; indent with spaces")
    (braces,) = problems(tmp_path, MINIMAL + "storage: {path: ${HOME}/x}")
    assert braces.endswith("; inside braces, put quotes around a text with ${...}")


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    text = """\
version: 1
accounts: {main: {quotaa: 5/s}}
watches:
  w: {account: man, poll: {interval: 1 hour}}
sinks:
  a: {type: emial}
  a: {type: console}
  b: {type: file, path: "${NOWHERE}"}
defaults: {to: [c]}
"""
    keys = [problem.split(" ")[1] for problem in problems(tmp_path, text)]
    assert keys == [
        "accounts.main.quotaa:",
        "watches.w.account:",
        "watches.w.poll.interval:",
        "sinks.a.type:",
        "sinks.a:",
        "sinks.b.path:",
        "defaults.to[0]:",
    ]


def test_a_name_in_two_files_is_refused_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("\nsinks:\n  me: {type: console}\n")
    found = problems(tmp_path, MINIMAL + "include: more.yaml\n")
    assert found == [f"more.yaml:3:3 sinks.me: stands twice; the other is in {tmp_path}/watcher.yaml line 3"]


def test_a_problem_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("sinks:\n  log: {type: file, pth: x}\n")
    found = problems(tmp_path, MINIMAL + "include: more.yaml\n")
    assert "more.yaml:2:21 sinks.log.pth: unknown key; did you mean `path`?" in found


def bomb(kind: str) -> str:
    if kind == "merges":
        lines = ["a0: &a0 {k: v}"]
        lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 9)]
        return "\n".join(lines)
    if kind == "aliases":
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        return "\n".join(lines)
    return "[" * 5000


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["merges", "aliases", "depth"])
def test_a_bomb_is_refused_without_going_off(tmp_path: Path, kind: str) -> None:
    assert problems(tmp_path, bomb(kind))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "watcher.yaml"
    file.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(file, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read \(No such file or directory\)"):
        load(find(tmp_path / "absent.yaml"), {})


# --- secrets ----------------------------------------------------------------------------------------------

SIGNED = MINIMAL.replace("{type: console}", "{type: webhook, url: 'https://x', sign: [%s]}")


def sign(config: Config) -> str:
    sink = config.model.sinks["me"]
    assert isinstance(sink, sinks.WebhookModel)
    return sink.sign[0].resolve(config.vault).reveal()


def test_a_secret_comes_from_the_environment_a_file_a_credential_or_a_command(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_ZmlsZQ==\n")
    environ = {"TOKEN": "whsec_ZW52", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for reference, value in {
        "{env: TOKEN}": "whsec_ZW52",
        f"{{file: {tmp_path}/secret}}": "whsec_ZmlsZQ==",
        "{credential: secret}": "whsec_ZmlsZQ==",
        "{command: [echo, whsec_Y29tbWFuZA==]}": "whsec_Y29tbWFuZA==",
    }.items():
        config = read(tmp_path, SIGNED % reference, **environ)
        assert config.absent_secrets() == []
        assert sign(config) == value


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("{env: NOWHERE}", "the environment variable NOWHERE is not set"),
        ("{file: /nowhere/secret}", "/nowhere/secret cannot be read (No such file or directory)"),
        ("{credential: token}", "there is no $CREDENTIALS_DIRECTORY; run under systemd with LoadCredential=token:PATH"),
        ("{command: [no-such-program-here]}", "the command no-such-program-here does not exist"),
    ],
)
def test_an_absent_secret_is_said_with_its_place_but_the_file_is_good(tmp_path: Path, reference: str, why: str) -> None:
    config = read(tmp_path, SIGNED % reference)
    (problem,) = config.absent_secrets()
    assert str(problem).removeprefix(f"{tmp_path}/").startswith(f"watcher.yaml:3:54 sinks.me.sign[0]: {why}")


def test_a_secret_that_cannot_sign_is_said_before_anything_runs(tmp_path: Path) -> None:
    config = read(tmp_path, SIGNED % "{env: TOKEN}", TOKEN="whsec_!!")
    (problem,) = config.absent_secrets()
    assert problem.message.startswith("the secret is not `whsec_` followed by base64")


def test_a_list_of_tickets_that_is_emptied_does_not_become_a_watch_over_all(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MINIMAL + "watches: {w: {tickets: []}}")
    assert problem == "watcher.yaml:4:24 watches.w.tickets: must hold at least one entry"


def test_a_password_in_an_address_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MINIMAL.replace("{type: console}", "{type: webhook, url: 'https://u:canary@x'}"))
    assert "a password never stands in this file" in problem
    assert "canary" not in problem


def test_a_file_to_include_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert problems(tmp_path, MINIMAL + "include: [mroe.yaml]") == [
        "watcher.yaml:4:11 include[0]: there is no file mroe.yaml"
    ]
    assert read(tmp_path, MINIMAL + "include: [more-*.yaml]")


def test_a_failing_command_tells_its_status_and_nothing_it_printed(tmp_path: Path) -> None:
    config = read(tmp_path, SIGNED % "{command: [sh, -c, 'echo canary; echo canary >&2; exit 3']}")
    with pytest.raises(ConfigError) as error:
        sign(config)
    assert str(error.value) == "the command sh failed with exit status 3"


def test_a_secret_shows_itself_only_when_asked_by_name() -> None:
    secret = Secret("canary")
    assert "canary" not in f"{secret!r} {secret} {[secret]} {Vault(environ={})!r}"
    assert secret.reveal() == "canary"
