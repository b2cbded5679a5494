"""The command line: where credentials come from, and that no secret is seen anywhere."""

import json
import time
from collections.abc import Callable

import pytest

from tests.place import CANARY_HOOK, CANARY_KEY, CANARY_PATH, HOUR, TICKET, Place, an_old_conversation
from watcher.simulator import Account, Key

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
