"""Credentials that this machine holds: given values, the environment, a command, and how a file is read."""

import shlex
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from subprocess import DEVNULL

import anyio

from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.ticketapi.credentials.contract import Credentials, CredentialsAbsent, decode_object, read_answer

_COMMAND_KEYS = ("access_key_id", "access_key_secret", "sts_token", "expiration")


class StaticKey:
    """A key that was given as it is."""

    def __init__(
        self,
        *,
        access_key_id: str,
        access_key_secret: str,
        security_token: str = "",
        source: str = "configuration",
    ) -> None:
        self._credentials = Credentials(access_key_id, access_key_secret, security_token, None, source)

    async def fetch(self) -> Credentials:
        """Return the values."""
        held = self._credentials
        if not held.access_key_id or not held.access_key_secret:
            raise CredentialsRejected(f"In the {held.source}, the access key id or secret is empty: fill it in.")
        return held


class EnvironmentKey:
    """A key in the environment, read at each fetch."""

    def __init__(self, *, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def fetch(self) -> Credentials:
        """Return the key of ``ALIBABA_CLOUD_ACCESS_KEY_ID`` and its companions."""
        names = ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET")
        key_id, secret = (variable(self._environment, name) for name in names)
        if not key_id and not secret:
            raise CredentialsAbsent(f"The environment variable {names[0]} is not set.")
        if not key_id or not secret:
            there, missing = names if key_id else reversed(names)
            raise CredentialsRejected(f"The environment variable {there} is set but {missing} is not: set both.")
        token = variable(self._environment, "ALIBABA_CLOUD_SECURITY_TOKEN")
        return Credentials(key_id, secret, token, None, "environment")


class Command:
    """A program that prints the credentials, as the vendor's ``External`` mode asks for it.

    It runs without a shell, in this process's environment; what it says on standard error is not shown, since
    it may hold secrets.
    """

    def __init__(self, *, command: str, source: str, time_limit: timedelta = timedelta(minutes=1)) -> None:
        self._command = command
        self._source = source
        self._time_limit = time_limit

    async def fetch(self) -> Credentials:
        """Run the program and read what it prints."""
        what = f"The process_command of the {self._source}"
        printed = await self._run(what)
        try:
            answer = decode_object(printed)
            mode = answer.get("mode", "AK")
            if mode not in ("AK", "StsToken"):
                raise CredentialsRejected(f"{what} prints a mode other than AK and StsToken.")
            found = read_answer(answer, source=self._source, keys=_COMMAND_KEYS)
        except ValueError as error:
            raise CredentialsRejected(f"{what} prints something that {error}: run it by hand.") from error
        if mode == "StsToken" and not found.security_token:
            raise CredentialsRejected(f"{what} prints the mode StsToken but no sts_token: run it by hand.")
        return found

    async def _run(self, what: str) -> bytes:
        try:
            words = shlex.split(self._command)
        except ValueError as error:
            raise CredentialsRejected(f"{what} has an unclosed quotation or escape.") from error
        if not words:
            raise CredentialsRejected(f"{what} is empty.")
        try:
            with anyio.fail_after(self._time_limit.total_seconds()):
                done = await anyio.run_process(words, stdin=DEVNULL, stderr=DEVNULL, check=False)
        except TimeoutError as error:
            limit = self._time_limit.total_seconds()
            raise ApiUnavailable(f"{what} was stopped after {limit:g} s: run it by hand.") from error
        except (OSError, ValueError) as error:
            raise CredentialsRejected(f"{what} cannot be started: {reason(error)}.") from error
        if done.returncode != 0:
            raise CredentialsRejected(f"{what} ended with status {done.returncode}: run it by hand.")
        return done.stdout


def variable(environment: Mapping[str, str], name: str) -> str:
    """Return a variable without the blanks and newlines around it; unset and empty are the same."""
    return environment.get(name, "").strip()


def switched_on(environment: Mapping[str, str], name: str) -> bool:
    """Tell whether a variable says "true", in any case, as the vendor reads its switches."""
    return variable(environment, name).lower() == "true"


async def read_text(path: Path, *, shown: str, expected: bool) -> str:
    """Return the UTF-8 text of a file.

    A file that is not there is broken if it is ``expected``, else absent. One that cannot even be seen counts
    as not there: services often run with the home directories closed to them.
    """
    gone = CredentialsRejected if expected else CredentialsAbsent
    file = anyio.Path(path)
    try:
        await file.stat()
    except OSError as error:
        raise gone(f"The file {shown} cannot be found: {reason(error)}.") from error
    try:
        return (await file.read_bytes()).decode("utf-8-sig")
    except OSError as error:
        raise CredentialsRejected(
            f"The file {shown} cannot be read: {reason(error)}. Let the user of the watcher read it."
        ) from error
    except UnicodeDecodeError:
        # Not chained: the decoder's error carries the whole file.
        raise CredentialsRejected(f"The file {shown} is not UTF-8 text.") from None


def reason(error: Exception) -> str:
    """Say what the system said, without the path that the sentence already names."""
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else type(error).__name__
