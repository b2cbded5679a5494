"""Where credentials come from, how they are renewed, and that no secret is ever told."""

import hashlib
import hmac
import json
import shlex
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from structlog.testing import capture_logs

from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.http import open_session
from watcher.ticketapi.credentials import (
    CachedCredentials,
    CliFile,
    Command,
    Credentials,
    CredentialsAbsent,
    CredentialsUri,
    DefaultChain,
    EcsRamRole,
    EnvironmentKey,
    IniFile,
    OidcRole,
    Provider,
    RamRole,
    Remote,
    StaticKey,
    Sts,
    sts_endpoint,
)

NOW = datetime(2026, 1, 15, 8, 30, tzinfo=UTC)
LATER = "2026-01-15T09:30:00Z"
ROLE = "acs:ram::1:role/reader"
SECRETS = ("top-secret", "granted-secret", "granted-token", "oidc-token", "query-secret", "session-token")


class FakeClock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def elapsed(self) -> float:
        return (self.at - NOW).total_seconds()

    async def sleep(self, span: timedelta) -> None:
        self.at += span

    def advance(self, **span: float) -> None:
        self.at += timedelta(**span)


class FakeSource:
    """A provider that answers what it was told to, and may be held up."""

    def __init__(self, *answers: Credentials | Exception) -> None:
        self.answers = list(answers)
        self.fetches = 0
        self.gate = anyio.Event()
        self.gate.set()

    async def fetch(self) -> Credentials:
        self.fetches += 1
        await self.gate.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeCloud:
    """STS, the ECS metadata service and a credentials URI in one loopback server."""

    def __init__(self) -> None:
        self.url = ""
        self.keys = {"AKID": "top-secret"}
        self.roles: dict[str, str] = {}
        self.imds = "session-token"
        self.calls: list[str] = []
        self.params: dict[str, str] = {}
        self.failure: tuple[int, str] | None = None
        self.granted = 0

    def grant(self, until: str = LATER) -> dict[str, str]:
        """Hand out a new temporary key, which may itself sign."""
        self.granted += 1
        self.keys[f"STS.{self.granted}"] = "granted-secret"
        return {
            "AccessKeyId": f"STS.{self.granted}",
            "AccessKeySecret": "granted-secret",
            "SecurityToken": "granted-token",
            "Expiration": until,
        }

    def attach(self, role: str) -> None:
        """Give the instance a RAM role."""
        self.roles[role] = LATER

    def fail(self, status: int, body: str) -> None:
        """Answer everything so."""
        self.failure = (status, body)

    def refuse(self, code: str, status: int = 400) -> None:
        """Answer everything as STS refuses."""
        self.fail(status, json.dumps({"Code": code, "Message": "quotes top-secret"}))

    async def sts(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.params = {**request.query, **form}
        if self.failure:
            return web.Response(status=self.failure[0], text=self.failure[1])
        if request.query.get("Action") == "AssumeRoleWithOIDC":
            assert "Authorization" not in request.headers
            assert set(request.query) == {"Action", "Format", "SignatureNonce", "Timestamp", "Version"}
            self.calls.append("AssumeRoleWithOIDC")
        else:
            assert request.headers["x-acs-version"] == "2015-04-01"
            assert request.headers["accept"] == "application/json"
            self.calls.append(request.headers["x-acs-action"])
            if not self._signed(request):
                body = {"Code": "SignatureDoesNotMatch", "Message": "top-secret"}
                return web.json_response(body, status=400)
        return web.json_response({"RequestId": "r", "Credentials": self.grant()})

    def _signed(self, request: web.Request) -> bool:
        algorithm, _, fields = request.headers["Authorization"].partition(" ")
        given = dict(field.split("=", 1) for field in fields.split(","))
        names = given["SignedHeaders"].split(";")
        assert {"host", "x-acs-action", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"} <= set(names)
        if given["Credential"].startswith("STS."):
            assert request.headers["x-acs-security-token"] == "granted-token"
            assert "x-acs-security-token" in names
        query = "&".join(f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}" for n, v in sorted(request.query.items()))
        empty = hashlib.sha256(b"").hexdigest()
        assert request.headers["x-acs-content-sha256"] == empty
        lines = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names)
        canonical = f"POST\n/\n{query}\n{lines}\n{given['SignedHeaders']}\n{empty}"
        text = f"{algorithm}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = self.keys.get(given["Credential"], "")
        return given["Signature"] == hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()

    async def imds_token(self, request: web.Request) -> web.Response:
        self.calls.append("token")
        assert request.headers["X-aliyun-ecs-metadata-token-ttl-seconds"] == "21600"
        return web.Response(status=200 if self.imds else 403, text=self.imds)

    async def imds_role(self, request: web.Request) -> web.Response:
        self.calls.append("role")
        if self.failure:
            return web.Response(status=self.failure[0], text=self.failure[1])
        if request.headers.get("X-aliyun-ecs-metadata-token", "") != self.imds:
            return web.Response(status=403)
        role = request.match_info["role"]
        if not role and self.roles:
            return web.Response(text="\n".join(self.roles))
        if role not in self.roles:
            return web.Response(status=404)
        return web.json_response({"Code": "Success", **self.grant()})

    async def uri(self, request: web.Request) -> web.Response:
        self.calls.append("uri")
        assert request.query["key"] == "query-secret"
        if self.failure:
            return web.Response(status=self.failure[0], text=self.failure[1])
        return web.json_response({"Code": "Success", **self.grant()})


@asynccontextmanager
async def running(cloud: FakeCloud) -> AsyncIterator[aiohttp.ClientSession]:
    app = web.Application()
    app.router.add_post("/", cloud.sts)
    app.router.add_put("/latest/api/token", cloud.imds_token)
    app.router.add_get("/latest/meta-data/ram/security-credentials/{role:.*}", cloud.imds_role)
    app.router.add_get("/credentials", cloud.uri)
    async with TestServer(app, host="127.0.0.1") as server, open_session() as session:
        cloud.url = str(server.make_url("")).rstrip("/")
        yield session


@pytest.fixture
async def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
async def session(cloud: FakeCloud) -> AsyncIterator[aiohttp.ClientSession]:
    async with running(cloud) as session:
        yield session


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


class Machine:
    """A home directory, an environment, and the sources that read them."""

    def __init__(self, home: Path, cloud: FakeCloud, session: aiohttp.ClientSession) -> None:
        self.home = home
        self.cloud = cloud
        self.session = session
        self.environment: dict[str, str] = {}

    def write(self, path: str, text: str) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    def write_cli(self, *profiles: Mapping[str, Any], current: str = "default") -> None:
        self.write(".aliyun/config.json", json.dumps({"current": current, "profiles": profiles}))

    def write_ini(self, text: str) -> None:
        self.write(".alibabacloud/credentials.ini", text)

    def set(self, **variables: str) -> None:
        self.environment.update({f"ALIBABA_CLOUD_{name}": value for name, value in variables.items()})

    @property
    def remote(self) -> Remote:
        return Remote(
            session=self.session,
            clock=FakeClock(),
            environment=self.environment,
            home=self.home,
            sts_endpoint=self.cloud.url,
            metadata_url=self.cloud.url,
        )

    def cli(self, profile: str = "") -> CliFile:
        return CliFile(remote=self.remote, profile=profile)

    def ini(self) -> IniFile:
        return IniFile(remote=self.remote)

    def chain(self, *, metadata_url: str = "") -> DefaultChain:
        return DefaultChain(
            session=self.session,
            clock=FakeClock(),
            environment=self.environment,
            home=self.home,
            sts_endpoint=self.cloud.url,
            metadata_url=metadata_url or self.cloud.url,
        )


@pytest.fixture
def machine(tmp_path: Path, cloud: FakeCloud, session: aiohttp.ClientSession) -> Machine:
    return Machine(tmp_path, cloud, session)


def key(until: datetime | None = None, name: str = "AKID") -> Credentials:
    return Credentials(name, "top-secret", "", until, "test")


def nowhere() -> str:
    return f"http://127.0.0.1:{unused_port()}"


async def rejection(provider: Provider) -> str:
    with pytest.raises(CredentialsRejected) as caught:
        await provider.fetch()
    return told(caught.value)


async def outage(provider: Provider) -> str:
    with pytest.raises(ApiUnavailable) as caught:
        await provider.fetch()
    return told(caught.value)


def told(error: BaseException) -> str:
    """Return an error's text, having looked for secrets in all that a log would show of it."""
    shown = "".join(traceback.format_exception(error)) + repr(error)
    # The traceback quotes our own source lines; what matters are the texts of the errors.
    texts = [line for line in shown.splitlines() if not line.startswith("    ")]
    assert not [secret for secret in SECRETS if secret in "\n".join(texts)]
    return str(error)


# --- the credentials themselves ---------------------------------------------------------------------------


def test_neither_repr_nor_str_shows_a_secret() -> None:
    credentials = Credentials("AKID", "top-secret", "session-token", None, "environment")
    for text in (repr(credentials), str(credentials), f"{credentials}"):
        assert "AKID" in text
        assert not [secret for secret in SECRETS if secret in text]


# --- keeping and renewing ---------------------------------------------------------------------------------


async def test_a_key_without_an_end_is_fetched_once(clock: FakeClock) -> None:
    source = FakeSource(key())
    cached = CachedCredentials(source, clock)
    await cached.get()
    clock.advance(days=400)
    await cached.get()
    assert source.fetches == 1


@pytest.mark.parametrize(("life_s", "fresh_s"), [(3600, 2700), (21600, 20700), (1800, 900), (900, 450), (60, 30)])
async def test_renewal_is_a_quarter_of_an_hour_before_the_end_or_half_way(
    clock: FakeClock, life_s: int, fresh_s: int
) -> None:
    source = FakeSource(key(NOW + timedelta(seconds=life_s)), key(NOW + timedelta(days=1), "NEW"))
    cached = CachedCredentials(source, clock)
    await cached.get()
    clock.advance(seconds=fresh_s - 1)
    assert (await cached.get()).access_key_id == "AKID"
    clock.advance(seconds=1)
    assert (await cached.get()).access_key_id == "NEW"


async def test_the_old_ones_serve_while_the_renewal_fails_and_it_is_said_once(clock: FakeClock) -> None:
    failure = ApiUnavailable("STS does not answer.")
    source = FakeSource(key(NOW + timedelta(hours=1)), failure, failure, key(NOW + timedelta(hours=3), "NEW"))
    cached = CachedCredentials(source, clock)
    await cached.get()
    with capture_logs() as logs:
        clock.advance(minutes=45)
        assert (await cached.get()).access_key_id == "AKID"
        assert (await cached.get()).access_key_id == "AKID"
        assert source.fetches == 2, "a failed renewal rests for a minute"
        clock.advance(minutes=1)
        assert (await cached.get()).access_key_id == "AKID"
        clock.advance(minutes=1)
        assert (await cached.get()).access_key_id == "NEW"
    assert [(entry["log_level"], entry.get("failures")) for entry in logs] == [("warning", None), ("info", 2)]
    assert logs[0]["error"] == "STS does not answer."
    assert not [secret for secret in SECRETS if secret in str(logs)]


async def test_once_the_old_ones_have_ended_a_failure_is_a_failure(clock: FakeClock) -> None:
    source = FakeSource(key(NOW + timedelta(hours=1)), CredentialsRejected("gone"))
    cached = CachedCredentials(source, clock)
    await cached.get()
    clock.advance(minutes=59, seconds=30)
    await cached.get()
    clock.advance(seconds=30)
    with pytest.raises(CredentialsRejected, match="gone"):
        await cached.get()


async def test_fifty_callers_share_one_fetch(clock: FakeClock) -> None:
    source = FakeSource(key())
    source.gate = anyio.Event()
    cached = CachedCredentials(source, clock)
    found: list[Credentials] = []

    async def call() -> None:
        found.append(await cached.get())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        source.gate.set()
    assert source.fetches == 1
    assert len(found) == 50
    assert all(one is found[0] for one in found)


async def test_fifty_callers_share_one_failure_and_the_next_tries_again(clock: FakeClock) -> None:
    source = FakeSource(ApiUnavailable("down"), key())
    source.gate = anyio.Event()
    cached = CachedCredentials(source, clock)
    failures: list[str] = []

    async def call() -> None:
        try:
            await cached.get()
        except ApiUnavailable as error:
            failures.append(str(error))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        source.gate.set()
    assert failures == ["down"] * 50
    assert source.fetches == 1
    assert await cached.get() == key()


async def test_callers_share_even_credentials_that_have_ended_already(clock: FakeClock) -> None:
    source = FakeSource(key(NOW - timedelta(hours=1)))
    source.gate = anyio.Event()
    cached = CachedCredentials(source, clock)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(cached.get)
        await anyio.wait_all_tasks_blocked()
        source.gate.set()
    assert source.fetches == 1, "the gateway decides: this machine's clock may be the one that is wrong"


async def test_a_cancelled_fetch_leaves_the_next_caller_free(clock: FakeClock) -> None:
    source = FakeSource(key())
    source.gate = anyio.Event()
    cached = CachedCredentials(source, clock)
    async with anyio.create_task_group() as group:
        group.start_soon(cached.get)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    source.gate.set()
    assert await cached.get() == key()


async def test_refused_credentials_are_read_again_and_a_late_refusal_changes_nothing(
    clock: FakeClock,
) -> None:
    machine_key = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "AKID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "top-secret"}
    cached = CachedCredentials(EnvironmentKey(environment=machine_key), clock)
    old = await cached.get()
    machine_key["ALIBABA_CLOUD_ACCESS_KEY_ID"] = "ROTATED"
    assert await cached.get() is old
    cached.invalidate(old)
    new = await cached.get()
    assert new.access_key_id == "ROTATED"
    cached.invalidate(old)
    assert await cached.get() is new


async def test_refused_credentials_do_not_serve_when_the_source_fails(clock: FakeClock) -> None:
    source = FakeSource(key(NOW + timedelta(hours=1)), ApiUnavailable("down"))
    cached = CachedCredentials(source, clock)
    cached.invalidate(await cached.get())
    with pytest.raises(ApiUnavailable):
        await cached.get()


# --- given values and the environment ---------------------------------------------------------------------


async def test_given_values_are_returned_and_must_be_whole() -> None:
    given = StaticKey(access_key_id="AKID", access_key_secret="top-secret")
    assert await given.fetch() == Credentials("AKID", "top-secret", "", None, "configuration")
    half = StaticKey(access_key_id="", access_key_secret="top-secret")
    assert "configuration" in await rejection(half)


async def test_the_environment_is_read_at_each_fetch_without_blanks() -> None:
    environment: dict[str, str] = {}
    source = EnvironmentKey(environment=environment)
    with pytest.raises(CredentialsAbsent, match="ALIBABA_CLOUD_ACCESS_KEY_ID is not set"):
        await source.fetch()
    environment["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] = "top-secret\n"
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID is not: set both" in await rejection(source)
    environment["ALIBABA_CLOUD_ACCESS_KEY_ID"] = " AKID "
    environment["ALIBABA_CLOUD_SECURITY_TOKEN"] = "session-token"
    assert await source.fetch() == Credentials("AKID", "top-secret", "session-token", None, "environment")


# --- the command line's file ------------------------------------------------------------------------------

AK = {"name": "default", "mode": "AK", "access_key_id": "AKID", "access_key_secret": "top-secret"}


async def test_the_profile_is_chosen_by_argument_then_variable_then_current(machine: Machine) -> None:
    machine.write_cli(AK, {**AK, "name": "two", "access_key_id": "A2"}, {**AK, "name": "three", "access_key_id": "A3"})
    found = await machine.cli().fetch()
    assert found == Credentials("AKID", "top-secret", "", None, "profile default of ~/.aliyun/config.json")
    machine.set(PROFILE="two")
    assert (await machine.cli().fetch()).access_key_id == "A2"
    assert (await machine.cli("three").fetch()).access_key_id == "A3"


async def test_a_profile_may_hold_a_temporary_key(machine: Machine) -> None:
    machine.write_cli({**AK, "mode": "StsToken", "sts_token": "session-token"})
    assert (await machine.cli().fetch()).security_token == "session-token"


async def test_a_profile_may_take_on_a_role(machine: Machine) -> None:
    role = {"mode": "RamRoleArn", "ram_role_arn": ROLE, "ram_session_name": "me", "expired_seconds": 900}
    machine.write_cli({**AK, **role, "external_id": "ext/1", "policy": '{"a": "*"}'})
    found = await machine.cli().fetch()
    assert (found.access_key_id, found.security_token) == ("STS.1", "granted-token")
    assert found.expires_at == datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
    assert "RAM role reader" in found.source
    assert "profile default of ~/.aliyun/config.json" in found.source
    assert machine.cloud.params == {
        "DurationSeconds": "900",
        "ExternalId": "ext/1",
        "Policy": '{"a": "*"}',
        "RoleArn": ROLE,
        "RoleSessionName": "me",
    }


async def test_profiles_may_take_on_roles_one_after_the_other(machine: Machine) -> None:
    chain = {"mode": "ChainableRamRoleArn", "ram_role_arn": ROLE, "expired_seconds": 0}
    machine.write_cli(
        AK,
        {**chain, "name": "one", "source_profile": "default"},
        {**chain, "name": "two", "source_profile": "one"},
        current="two",
    )
    assert (await machine.cli().fetch()).access_key_id == "STS.2"
    assert machine.cloud.params["DurationSeconds"] == "3600"
    assert machine.cloud.params["RoleSessionName"] == "watcher"


async def test_source_profiles_that_go_round_in_a_circle_are_named(machine: Machine) -> None:
    chain = {"mode": "ChainableRamRoleArn", "ram_role_arn": ROLE}
    machine.write_cli(
        {**chain, "name": "one", "source_profile": "two"},
        {**chain, "name": "two", "source_profile": "one"},
        current="one",
    )
    assert "one -> two -> one" in await rejection(machine.cli())


async def test_a_profile_may_name_the_instance_role_or_an_address(machine: Machine) -> None:
    machine.cloud.attach("watcher-readonly")
    uri = f"{machine.cloud.url}/credentials?key=query-secret"
    machine.write_cli(
        {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": "watcher-readonly"},
        {"name": "uri", "mode": "CredentialsURI", "credentials_uri": uri},
    )
    assert (await machine.cli("ecs").fetch()).source == "ECS RAM role watcher-readonly"
    assert (await machine.cli("uri").fetch()).source == "profile uri of ~/.aliyun/config.json"


async def test_a_profile_may_use_an_oidc_token(machine: Machine) -> None:
    token = machine.write("token", "oidc-token\n")
    machine.write_cli(
        {
            "name": "default",
            "mode": "OIDC",
            "ram_role_arn": ROLE,
            "oidc_provider_arn": "acs:ram::1:oidc-provider/ack",
            "oidc_token_file": str(token),
            "ram_session_name": "pod",
        }
    )
    assert (await machine.cli().fetch()).access_key_id == "STS.1"
    assert machine.cloud.params["OIDCToken"] == "oidc-token"
    assert machine.cloud.params["RoleSessionName"] == "pod"


async def test_a_profile_may_run_a_command(machine: Machine) -> None:
    printed = {"mode": "StsToken", "access_key_id": "AKID", "access_key_secret": "top-secret"}
    answer = {**printed, "sts_token": "session-token", "expiration": LATER}
    machine.write_cli({"name": "default", "mode": "External", "process_command": printing(machine, answer)})
    found = await machine.cli().fetch()
    assert found.security_token == "session-token"
    assert found.expires_at == datetime(2026, 1, 15, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("mode", ["CloudSSO", "OAuth", "RsaKeyPair", "BearerToken", "Anonymous", ""])
async def test_a_mode_that_is_not_read_is_named_with_its_profile(machine: Machine, mode: str) -> None:
    machine.write_cli({**AK, "mode": mode})
    message = await rejection(machine.cli())
    assert f"the mode {mode!r}" in message
    assert "profile default of ~/.aliyun/config.json" in message
    assert "ChainableRamRoleArn" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"current": "x",\n "key": "top-secret" "b"}', "~/.aliyun/config.json has a syntax error in line 2"),
        ("[1]", "holds no JSON object"),
        ("[" * 200_000, "cannot be read as JSON"),
        ("{}", "names no current profile"),
        ('{"current": "x", "profiles": 3}', "no profile x"),
        ('{"current": "x", "profiles": [3, {"name": "y"}]}', "no profile x"),
        ('{"current": "x", "profiles": [{"name": "x", "mode": "AK"}]}', "`access_key_id` is missing"),
    ],
)
async def test_a_broken_command_line_file_is_named(machine: Machine, text: str, expected: str) -> None:
    machine.write(".aliyun/config.json", text)
    assert expected in await rejection(machine.cli())


async def test_a_missing_source_profile_is_named_with_the_one_that_asks(machine: Machine) -> None:
    machine.write_cli({"name": "default", "mode": "ChainableRamRoleArn", "source_profile": "base"})
    assert "no profile base, which profile default asks for" in await rejection(machine.cli())


@pytest.mark.parametrize("seconds", ["an hour", "-5", 10**9, 1.5])
async def test_a_session_that_is_no_number_of_seconds_is_named(machine: Machine, seconds: object) -> None:
    machine.write_cli({**AK, "mode": "RamRoleArn", "ram_role_arn": ROLE, "expired_seconds": seconds})
    assert "`expired_seconds` is not a number of seconds" in await rejection(machine.cli())


async def test_a_file_that_is_not_text_or_not_readable_is_named(machine: Machine) -> None:
    machine.write(".aliyun/config.json", "")
    (machine.home / ".aliyun/config.json").write_bytes(b"\xff\xfetop-secret")
    assert "not UTF-8" in await rejection(machine.cli())
    (machine.home / ".aliyun/config.json").unlink()
    (machine.home / ".aliyun/config.json").mkdir()
    assert "~/.aliyun/config.json cannot be read: is a directory" in await rejection(machine.cli())


# --- a command --------------------------------------------------------------------------------------------


def printing(machine: Machine, answer: object) -> str:
    script = machine.write("print.py", f"print({json.dumps(answer)!r})")
    return shlex.join([sys.executable, str(script)])


def command(line: str, **limits: Any) -> Command:
    return Command(command=line, source="profile x of ~/.aliyun/config.json", **limits)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "is empty"),
        ("echo 'top-secret", "unclosed quotation"),
        ("/no/such/program top-secret", "cannot be started: no such file"),
        ("false", "ended with status 1"),
        ("echo top-secret", "prints something that is not JSON"),
        ("echo {}", "holds no access key"),
        ("""echo '{"mode": "RsaKeyPair"}'""", "a mode other than AK and StsToken"),
        (
            """echo '{"mode": "StsToken", "access_key_id": "a", "access_key_secret": "top-secret"}'""",
            "no sts_token",
        ),
        (
            """echo '{"access_key_id": "a", "access_key_secret": "top-secret", "expiration": "soon"}'""",
            "an expiration that is no time",
        ),
    ],
)
async def test_a_command_that_does_not_serve_says_why(line: str, expected: str) -> None:
    message = await rejection(command(line))
    assert message.startswith("The process_command of the profile x of ~/.aliyun/config.json")
    assert expected in message


async def test_a_command_runs_without_a_shell(machine: Machine) -> None:
    await rejection(command(f"echo x > {machine.home}/made"))
    assert not (machine.home / "made").exists()


async def test_a_command_that_hangs_is_stopped() -> None:
    message = await outage(command("sleep 60", time_limit=timedelta(milliseconds=50)))
    assert "stopped after 0.05 s" in message


# --- the INI file -----------------------------------------------------------------------------------------


async def test_a_hash_inside_a_value_is_kept_and_one_after_a_blank_begins_a_comment(machine: Machine) -> None:
    machine.write_ini("[default]\ntype = access_key # mine\naccess_key_id = AKID\naccess_key_secret = a#%(b)s;c\n")
    found = await machine.ini().fetch()
    assert found.access_key_secret == "a#%(b)s;c"
    assert found.source == "section [default] of ~/.alibabacloud/credentials.ini"


async def test_the_file_and_the_section_are_chosen_by_variables(machine: Machine) -> None:
    body = "type = sts\naccess_key_id = AKID\naccess_key_secret = top-secret\nsecurity_token = session-token\n"
    other = machine.write("other.ini", f"[prod]\n{body}")
    machine.set(CREDENTIALS_FILE=str(other), PROFILE="prod")
    assert (await machine.ini().fetch()).security_token == "session-token"
    machine.set(PROFILE="test")
    assert "~/other.ini has no section [test]" in await rejection(machine.ini())
    machine.set(CREDENTIALS_FILE="/no/such/file")
    with pytest.raises(CredentialsRejected, match="/no/such/file cannot be found") as caught:
        await machine.ini().fetch()
    assert not isinstance(caught.value, CredentialsAbsent), "a file that somebody named must be there"


async def test_a_section_may_describe_each_kind_of_role(machine: Machine) -> None:
    machine.cloud.attach("r")
    token = machine.write("token", "oidc-token")
    machine.write_ini(
        "[key]\ntype=ram_role_arn\naccess_key_id=AKID\naccess_key_secret=top-secret\n"
        f"role_arn={ROLE}\nrole_session_name=s\npolicy={{}}\n"
        "[ecs]\ntype=ecs_ram_role\nrole_name=r\n"
        f"[oidc]\ntype=oidc_role_arn\nrole_arn={ROLE}\noidc_provider_arn=p\noidc_token_file_path={token}\n"
        "[rsa]\ntype=rsa_key_pair\n"
    )
    for section, call in (("key", "AssumeRole"), ("ecs", "role"), ("oidc", "AssumeRoleWithOIDC")):
        machine.set(PROFILE=section)
        assert (await machine.ini().fetch()).security_token == "granted-token"
        assert machine.cloud.calls[-1] == call
    machine.set(PROFILE="rsa")
    assert "the type 'rsa_key_pair'" in await rejection(machine.ini())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("access_key_secret = top-secret\n", 1),
        ("[default]\ntype = access_key\ntop-secret\n", 3),
        ("[default]\ntype = a\ntype = b\n", 3),
        ("[default]\n[default]\n", 2),
    ],
)
async def test_a_broken_ini_file_is_named_with_the_line_but_not_its_text(
    machine: Machine, text: str, line: int
) -> None:
    machine.write_ini(text)
    assert f"~/.alibabacloud/credentials.ini has a syntax error in line {line}" in await rejection(machine.ini())


# --- STS --------------------------------------------------------------------------------------------------


def role(cloud: FakeCloud, session: aiohttp.ClientSession, **changes: Any) -> RamRole:
    sts = Sts(session=session, clock=FakeClock(), endpoint=changes.pop("endpoint", cloud.url))
    source = StaticKey(access_key_id="AKID", access_key_secret=changes.pop("secret", "top-secret"))
    return RamRole(sts=sts, source=source, **{"role_arn": ROLE, **changes})


async def test_a_wrong_secret_is_refused_by_the_signature(cloud: FakeCloud, session: aiohttp.ClientSession) -> None:
    message = await rejection(role(cloud, session, secret="granted-secret"))
    assert "RAM role reader" in message
    assert "(SignatureDoesNotMatch): check the access key secret" in message


async def test_a_role_can_be_taken_on_with_a_role(cloud: FakeCloud, session: aiohttp.ClientSession) -> None:
    sts = Sts(session=session, clock=FakeClock(), endpoint=cloud.url)
    found = await RamRole(sts=sts, source=role(cloud, session), role_arn=ROLE).fetch()
    assert found.access_key_id == "STS.2"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("InvalidAccessKeyId.NotFound", "unknown or disabled"),
        ("NoPermission", "trust policy"),
        ("EntityNotExist.Role", "ARN"),
        ("Whatever.Else", "vendor's STS error list"),
        ("top-secret <b>", "(no code)"),
    ],
)
async def test_a_refusal_of_sts_names_its_code_and_a_remedy(
    cloud: FakeCloud, session: aiohttp.ClientSession, code: str, remedy: str
) -> None:
    cloud.refuse(code)
    assert remedy in await rejection(role(cloud, session))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, '{"Code": "InternalError"}'),
        (503, "<html>top-secret</html>"),
        (429, "{}"),
        (302, "{}"),
        (400, '{"Code": "Throttling.User"}'),
        (400, '{"Code": "InvalidTimeStamp.Expired"}'),
        (403, "<html>a proxy</html>"),
        (200, "<html>a portal</html>"),
        (200, "{}"),
        (200, '{"Credentials": [1]}'),
        (200, '{"Credentials": {"AccessKeyId": "a", "AccessKeySecret": "top-secret", "Expiration": "soon"}}'),
        (200, "x" * 70_000),
    ],
)
async def test_an_unusable_answer_of_sts_is_an_outage(
    cloud: FakeCloud, session: aiohttp.ClientSession, status: int, body: str
) -> None:
    cloud.fail(status, body)
    assert (await outage(role(cloud, session))).startswith("STS")


async def test_an_sts_that_cannot_be_reached_is_an_outage(cloud: FakeCloud, session: aiohttp.ClientSession) -> None:
    assert "cannot connect" in await outage(role(cloud, session, endpoint=nowhere()))


@pytest.mark.parametrize(
    "endpoint",
    ["http://sts.aliyuncs.com", "sts.aliyuncs.com", "", "ftp://127.0.0.1", "https://[", "https://u:p@h"],
)
async def test_an_endpoint_must_be_https_unless_it_is_this_machine(
    cloud: FakeCloud, session: aiohttp.ClientSession, endpoint: str
) -> None:
    assert "The STS endpoint" in await rejection(role(cloud, session, endpoint=endpoint))


async def test_a_role_needs_a_name_and_a_session_of_a_quarter_of_an_hour(
    cloud: FakeCloud, session: aiohttp.ClientSession
) -> None:
    assert "900 s" in await rejection(role(cloud, session, duration=timedelta(seconds=899)))
    assert "has no ARN" in await rejection(role(cloud, session, role_arn=""))
    assert cloud.calls == []


def test_the_endpoint_follows_region_and_vpc() -> None:
    assert sts_endpoint({}) == "https://sts.aliyuncs.com"
    region = {"ALIBABA_CLOUD_STS_REGION": "cn-beijing"}
    assert sts_endpoint(region) == "https://sts.cn-beijing.aliyuncs.com"
    vpc = {**region, "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED": "True"}
    assert sts_endpoint(vpc) == "https://sts-vpc.cn-beijing.aliyuncs.com"
    assert sts_endpoint(vpc, region="eu-central-1", vpc=False) == "https://sts.eu-central-1.aliyuncs.com"
    with pytest.raises(CredentialsRejected, match="not the name of a region"):
        sts_endpoint({"ALIBABA_CLOUD_STS_REGION": "evil.example/"})


async def test_the_oidc_token_is_read_at_each_fetch_and_sent_in_the_body(
    cloud: FakeCloud, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    source = OidcRole(
        sts=Sts(session=session, clock=FakeClock(), endpoint=cloud.url),
        role_arn=ROLE,
        provider_arn="acs:ram::1:oidc-provider/ack",
        token_file=token,
        policy="{}",
    )
    message = await rejection(source)
    assert f"{token} cannot be found" in message
    token.write_text(" \n")
    assert f"{token} is empty" in await rejection(source)
    for text in ("oidc-token+1/=", "oidc-token.2"):
        token.write_text(text)
        assert (await source.fetch()).source == "RAM role reader, taken on with an OIDC token"
        assert cloud.params["OIDCToken"] == text
    assert cloud.params["Timestamp"] == "2026-01-15T08:30:00Z"
    cloud.refuse("AuthenticationFail.OIDCToken.Expired", 401)
    assert "OIDC provider" in await rejection(source)


# --- the ECS metadata service -----------------------------------------------------------------------------


async def test_the_role_of_an_instance_is_discovered_with_a_session_token(
    cloud: FakeCloud, session: aiohttp.ClientSession
) -> None:
    cloud.attach("watcher-readonly")
    found = await EcsRamRole(session=session, base_url=cloud.url).fetch()
    assert found.source == "ECS RAM role watcher-readonly"
    assert found.expires_at == datetime(2026, 1, 15, 9, 30, tzinfo=UTC)
    assert cloud.calls == ["token", "role", "role"]


async def test_without_a_session_token_it_goes_on_tokenless_unless_forbidden(
    cloud: FakeCloud, session: aiohttp.ClientSession
) -> None:
    cloud.attach("r")
    cloud.imds = ""
    assert (await EcsRamRole(session=session, role="r", base_url=cloud.url).fetch()).security_token
    strict = EcsRamRole(session=session, role="r", base_url=cloud.url, tokenless=False)
    assert "ALIBABA_CLOUD_IMDSV1_DISABLED forbids" in await rejection(strict)


async def test_only_sts_is_asked_through_the_proxy(
    cloud: FakeCloud, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    cloud.attach("r")
    remote = Remote(
        session=session,
        clock=FakeClock(),
        environment={},
        home=tmp_path,
        sts_endpoint=cloud.url,
        metadata_url=cloud.url,
        proxy=nowhere(),
    )
    ecs = remote.ecs_role("r")
    assert (await ecs.fetch()).access_key_id == "STS.1"
    assert "the proxy cannot be reached" in await outage(RamRole(sts=remote.sts(), source=ecs, role_arn=ROLE))


async def test_an_instance_without_the_role_says_so(cloud: FakeCloud, session: aiohttp.ClientSession) -> None:
    with pytest.raises(CredentialsAbsent, match="has no RAM role"):
        await EcsRamRole(session=session, base_url=cloud.url).fetch()
    assert "RAM role r:" in await rejection(EcsRamRole(session=session, role="r", base_url=cloud.url))


@pytest.mark.parametrize(
    ("status", "body"), [(503, ""), (200, "<html>\na portal"), (200, '{"Code": "Success"}'), (200, "")]
)
async def test_an_unusable_answer_of_the_metadata_service_is_an_outage(
    cloud: FakeCloud, session: aiohttp.ClientSession, status: int, body: str
) -> None:
    cloud.fail(status, body)
    for name in ("", "r"):
        assert "metadata service" in await outage(EcsRamRole(session=session, role=name, base_url=cloud.url))


async def test_a_metadata_service_that_has_nothing_to_give_is_a_refusal(
    cloud: FakeCloud, session: aiohttp.ClientSession
) -> None:
    cloud.fail(200, '{"Code": "Failed"}')
    assert "no credentials to give" in await rejection(EcsRamRole(session=session, role="r", base_url=cloud.url))


async def test_a_metadata_service_that_cannot_be_reached_is_an_outage(session: aiohttp.ClientSession) -> None:
    for tokenless in (True, False):
        source = EcsRamRole(session=session, base_url=nowhere(), tokenless=tokenless)
        assert "does not answer" in await outage(source)


# --- a credentials URI ------------------------------------------------------------------------------------


async def test_an_address_answers_with_credentials(cloud: FakeCloud, session: aiohttp.ClientSession) -> None:
    source = CredentialsUri(session=session, uri=f"{cloud.url}/credentials?key=query-secret")
    found = await source.fetch()
    assert (found.access_key_id, found.source) == ("STS.1", "credentials URI")
    cloud.fail(403, "query-secret")
    assert "status 403" in await rejection(source)
    cloud.fail(500, "")
    assert "status 500" in await outage(source)


async def test_an_address_that_is_none_or_dead_is_told_without_its_query(
    session: aiohttp.ClientSession,
) -> None:
    for uri in ("file:///etc/query-secret", "http://[query-secret", "query-secret"):
        assert "not an http" in await rejection(CredentialsUri(session=session, uri=uri))
    await outage(CredentialsUri(session=session, uri=f"{nowhere()}/?key=query-secret"))


# --- the chain --------------------------------------------------------------------------------------------


async def test_the_chain_asks_in_the_vendors_order(machine: Machine) -> None:
    machine.set(CREDENTIALS_URI=f"{machine.cloud.url}/credentials?key=query-secret")
    assert (await machine.chain().fetch()).source == "credentials URI"
    machine.cloud.attach("r")
    assert (await machine.chain().fetch()).source == "ECS RAM role r"
    machine.write_ini("[default]\ntype=access_key\naccess_key_id=INI\naccess_key_secret=top-secret\n")
    assert (await machine.chain().fetch()).access_key_id == "INI"
    machine.write_cli(AK)
    assert (await machine.chain().fetch()).source.startswith("profile default")
    token = machine.write("token", "oidc-token")
    machine.set(ROLE_ARN=ROLE, OIDC_PROVIDER_ARN="p", OIDC_TOKEN_FILE=str(token), ROLE_SESSION_NAME="pod")
    assert (await machine.chain().fetch()).source.endswith("an OIDC token")
    assert machine.cloud.params["RoleSessionName"] == "pod"
    machine.set(ACCESS_KEY_ID="ENV", ACCESS_KEY_SECRET="top-secret")
    assert (await machine.chain().fetch()).source == "environment"


async def test_sources_can_be_switched_off(machine: Machine) -> None:
    machine.cloud.attach("r")
    machine.write_cli(AK)
    machine.set(CLI_PROFILE_DISABLED="true")
    assert (await machine.chain().fetch()).source == "ECS RAM role r"
    machine.set(ECS_METADATA_DISABLED="TRUE")
    message = await rejection(machine.chain())
    assert "CLI_PROFILE_DISABLED switches" in message
    assert "ECS_METADATA_DISABLED switches" in message


async def test_when_nothing_answers_each_source_is_listed_with_its_reason(machine: Machine) -> None:
    machine.set(ROLE_ARN=ROLE)
    message = await rejection(machine.chain(metadata_url=nowhere()))
    for reason in (
        "ALIBABA_CLOUD_ACCESS_KEY_ID is not set.",
        "lacks ALIBABA_CLOUD_OIDC_PROVIDER_ARN, ALIBABA_CLOUD_OIDC_TOKEN_FILE.",
        "~/.aliyun/config.json cannot be found: no such file or directory.",
        "~/.alibabacloud/credentials.ini cannot be found: no such file or directory.",
        "The ECS metadata service does not answer",
        "ALIBABA_CLOUD_CREDENTIALS_URI is not set.",
    ):
        assert reason in message


async def test_a_broken_source_ends_the_chain(machine: Machine) -> None:
    machine.cloud.attach("r")
    machine.write_cli(AK, current="gone")
    assert "no profile gone" in await rejection(machine.chain())
    machine.set(ROLE_ARN=ROLE, OIDC_PROVIDER_ARN="p", OIDC_TOKEN_FILE="/no/token")
    assert "/no/token cannot be found" in await rejection(machine.chain())
    machine.set(ACCESS_KEY_ID="AKID")
    assert "set both" in await rejection(machine.chain())


async def test_a_source_that_is_set_up_but_out_of_reach_ends_the_chain(machine: Machine) -> None:
    token = machine.write("token", "oidc-token")
    machine.write_cli(AK)
    machine.set(ROLE_ARN=ROLE, OIDC_PROVIDER_ARN="p", OIDC_TOKEN_FILE=str(token))
    machine.cloud.fail(503, "{}")
    assert "503" in await outage(machine.chain())


async def test_a_named_instance_role_is_no_guess(machine: Machine) -> None:
    machine.set(ECS_METADATA="r")
    assert "does not answer" in await outage(machine.chain(metadata_url=nowhere()))
    assert "RAM role r:" in await rejection(machine.chain())


async def test_the_source_that_answered_is_preferred_until_it_fails(machine: Machine) -> None:
    machine.write_cli(AK)
    chain = machine.chain()
    await chain.fetch()
    machine.set(ACCESS_KEY_ID="ENV", ACCESS_KEY_SECRET="top-secret")
    assert (await chain.fetch()).access_key_id == "AKID"
    (machine.home / ".aliyun/config.json").unlink()
    with capture_logs() as logs:
        assert (await chain.fetch()).access_key_id == "ENV"
    assert [entry["log_level"] for entry in logs] == ["info", "info"]
    assert not [secret for secret in SECRETS if secret in str(logs)]


async def test_an_instance_that_has_answered_before_is_out_of_reach_not_absent(machine: Machine) -> None:
    machine.cloud.attach("r")
    chain = machine.chain()
    await chain.fetch()
    machine.cloud.fail(503, "")
    assert "503" in await outage(chain)


async def test_a_home_that_may_not_be_looked_into_counts_as_empty(machine: Machine) -> None:
    machine.cloud.attach("r")
    machine.write(".aliyun", "a file where a folder should be")
    assert (await machine.chain().fetch()).source == "ECS RAM role r"


async def test_construction_touches_nothing(session: aiohttp.ClientSession) -> None:
    before = threading.active_count()
    DefaultChain(session=session, clock=FakeClock())
    CachedCredentials(FakeSource(key()), FakeClock())
    assert threading.active_count() == before
