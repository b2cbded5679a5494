"""The vendor's two credential files: that of its command line, and the older INI file."""

import configparser
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from watcher.errors import CredentialsRejected
from watcher.ticketapi.credentials.contract import Credentials, CredentialsAbsent, Provider
from watcher.ticketapi.credentials.local import Command, StaticKey, read_text, switched_on, variable
from watcher.ticketapi.credentials.metadata import CredentialsUri
from watcher.ticketapi.credentials.remote import Remote
from watcher.ticketapi.credentials.sts import SESSION, OidcRole, RamRole

_CLI_MODES = "AK, StsToken, RamRoleArn, EcsRamRole, OIDC, ChainableRamRoleArn, CredentialsURI, External"
_INI_TYPES = "access_key, sts, ram_role_arn, ecs_ram_role, oidc_role_arn"

_SECONDS = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class _Entry:
    """One profile or section, and what it is called in sentences."""

    where: str
    values: Mapping[str, Any] = field(repr=False)

    def text(self, key: str) -> str:
        """Return a value as text; missing and null are ""."""
        value = self.values.get(key)
        return "" if value is None else str(value).strip()

    def need(self, key: str) -> str:
        """Return a value that must be there."""
        if not (value := self.text(key)):
            raise CredentialsRejected(f"In the {self.where}, `{key}` is missing: add it.")
        return value

    def span(self, key: str) -> timedelta:
        """Return a number of seconds; the command line writes 0 for "as usual"."""
        text = self.text(key) or "0"
        if not _SECONDS.fullmatch(text):
            raise CredentialsRejected(f"In the {self.where}, `{key}` is not a number of seconds: correct it.")
        return timedelta(seconds=int(text)) or SESSION

    def switch(self, key: str) -> bool | None:
        """Return a yes or no, None when the entry does not say."""
        return self.text(key).lower() == "true" if self.text(key) else None

    def key(self, *, token_key: str = "") -> StaticKey:
        """Return the access key written here, with its security token under ``token_key`` if there is one."""
        return StaticKey(
            access_key_id=self.need("access_key_id"),
            access_key_secret=self.need("access_key_secret"),
            security_token=self.need(token_key) if token_key else "",
            source=self.where,
        )


class CliFile:
    """``~/.aliyun/config.json``, which ``aliyun configure`` writes.

    The profile is ``profile``, else ``ALIBABA_CLOUD_PROFILE``, else the file's ``current``.
    """

    def __init__(self, *, remote: Remote, profile: str = "") -> None:
        self._remote = remote
        self._profile = profile
        self._path = remote.home / ".aliyun" / "config.json"
        self._shown = remote.shown(self._path)

    async def fetch(self) -> Credentials:
        """Read the file and ask the source that the profile describes."""
        environment = self._remote.environment
        if switched_on(environment, "ALIBABA_CLOUD_CLI_PROFILE_DISABLED"):
            raise CredentialsAbsent(f"ALIBABA_CLOUD_CLI_PROFILE_DISABLED switches the file {self._shown} off.")
        content = self._parse(await read_text(self._path, shown=self._shown, expected=False))
        profiles = self._profiles(content)
        name = self._profile or variable(environment, "ALIBABA_CLOUD_PROFILE")
        name = name or _Entry(self._shown, content).text("current")
        if not name:
            raise CredentialsRejected(f"The file {self._shown} names no current profile: run `aliyun configure`.")
        return await self._provider(profiles, name).fetch()

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            problem = f"has a syntax error in line {error.lineno}, column {error.colno}"
        except (ValueError, RecursionError):
            problem = "cannot be read as JSON"
        else:
            if isinstance(content, dict):
                return content
            problem = "holds no JSON object"
        # Raised out here: the decoder's error carries the whole file, and must not be this one's context.
        raise CredentialsRejected(f"The file {self._shown} {problem}: mend it, or run `aliyun configure`.")

    def _profiles(self, content: Mapping[str, Any]) -> dict[str, _Entry]:
        listed = content.get("profiles")
        found = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        # Of two profiles with one name the first counts, as for the vendor.
        return {
            str(item["name"]): _Entry(f"profile {item['name']} of {self._shown}", item)
            for item in reversed(found)
            if item.get("name")
        }

    def _provider(self, profiles: Mapping[str, _Entry], name: str, above: tuple[str, ...] = ()) -> Provider:
        """Return the source that a profile describes; ``above`` are the profiles that led to it."""
        if name in above:
            way = " -> ".join((*above, name))
            raise CredentialsRejected(f"In {self._shown}, the source profiles go round in a circle: {way}.")
        if name not in profiles:
            by = f", which profile {above[-1]} asks for" if above else ""
            raise CredentialsRejected(f"The file {self._shown} has no profile {name}{by}: add or correct it.")
        entry = profiles[name]
        match entry.text("mode"):
            case "AK":
                return entry.key()
            case "StsToken":
                return entry.key(token_key="sts_token")  # noqa: S106  the name of a key
            case "RamRoleArn":
                return self._role(entry, entry.key())
            case "ChainableRamRoleArn":
                return self._role(entry, self._provider(profiles, entry.need("source_profile"), (*above, name)))
            case mode:
                return self._keyless(entry, mode)

    def _keyless(self, entry: _Entry, mode: str) -> Provider:
        match mode:
            case "EcsRamRole":
                return self._remote.ecs_role(entry.text("ram_role_name"))
            case "OIDC":
                return OidcRole(
                    sts=self._remote.sts(region=entry.text("sts_region"), vpc=entry.switch("enable_vpc")),
                    role_arn=entry.need("ram_role_arn"),
                    provider_arn=entry.need("oidc_provider_arn"),
                    token_file=Path(entry.need("oidc_token_file")),
                    # The command line writes the one, the vendor's Python package reads the other.
                    session_name=entry.text("ram_session_name") or entry.text("role_session_name"),
                    duration=entry.span("expired_seconds"),
                    policy=entry.text("policy"),
                )
            case "CredentialsURI":
                uri = entry.need("credentials_uri")
                return CredentialsUri(session=self._remote.session, uri=uri, source=entry.where)
            case "External":
                return Command(command=entry.need("process_command"), source=entry.where)
        raise CredentialsRejected(
            f"The {entry.where} has the mode {mode!r}, which the watcher does not read: choose one of {_CLI_MODES}."
        )

    def _role(self, entry: _Entry, source: Provider) -> RamRole:
        return RamRole(
            sts=self._remote.sts(region=entry.text("sts_region"), vpc=entry.switch("enable_vpc")),
            source=source,
            role_arn=entry.need("ram_role_arn"),
            session_name=entry.text("ram_session_name"),
            duration=entry.span("expired_seconds"),
            external_id=entry.text("external_id"),
            policy=entry.text("policy"),
        )


class IniFile:
    """``ALIBABA_CLOUD_CREDENTIALS_FILE``, else ``~/.alibabacloud/credentials.ini``.

    The section is ``profile``, else ``ALIBABA_CLOUD_PROFILE``, else ``default``. A ``#`` begins a comment
    only after a blank: the vendor's reader cuts secrets at it.
    """

    def __init__(self, *, remote: Remote, profile: str = "") -> None:
        self._remote = remote
        self._profile = profile

    async def fetch(self) -> Credentials:
        """Read the file and ask the source that the section describes."""
        environment = self._remote.environment
        named = variable(environment, "ALIBABA_CLOUD_CREDENTIALS_FILE")
        path = Path(named) if named else self._remote.home / ".alibabacloud" / "credentials.ini"
        shown = self._remote.shown(path)
        sections = _parse_ini(await read_text(path, shown=shown, expected=bool(named)), shown)
        name = self._profile or variable(environment, "ALIBABA_CLOUD_PROFILE") or "default"
        if name not in sections:
            raise CredentialsRejected(f"The file {shown} has no section [{name}]: add it.")
        return await self._provider(_Entry(f"section [{name}] of {shown}", sections[name])).fetch()

    def _provider(self, entry: _Entry) -> Provider:
        match entry.text("type"):
            case "access_key":
                return entry.key()
            case "sts":
                return entry.key(token_key="security_token")  # noqa: S106  the name of a key
            case "ram_role_arn":
                return RamRole(
                    sts=self._remote.sts(),
                    source=entry.key(),
                    role_arn=entry.need("role_arn"),
                    session_name=entry.text("role_session_name"),
                    external_id=entry.text("external_id"),
                    policy=entry.text("policy"),
                )
            case "ecs_ram_role":
                return self._remote.ecs_role(entry.text("role_name"))
            case "oidc_role_arn":
                return OidcRole(
                    sts=self._remote.sts(),
                    role_arn=entry.need("role_arn"),
                    provider_arn=entry.need("oidc_provider_arn"),
                    token_file=Path(entry.need("oidc_token_file_path")),
                    session_name=entry.text("role_session_name"),
                    policy=entry.text("policy"),
                )
            case other:
                raise CredentialsRejected(
                    f"The {entry.where} has the type {other!r}, which the watcher does not read:"
                    f" choose one of {_INI_TYPES}."
                )


def _parse_ini(text: str, shown: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(inline_comment_prefixes=("#",))
    line: int | None
    try:
        parser.read_string(text)
    except (configparser.MissingSectionHeaderError, configparser.DuplicateOptionError) as error:
        line = error.lineno
    except configparser.DuplicateSectionError as error:
        line = error.lineno
    except configparser.ParsingError as error:
        line = error.errors[0][0]
    else:
        return {name: dict(parser.items(name)) for name in parser.sections()}
    # Raised out here: the parser's error quotes the line, secret and all, and must not be this one's context.
    raise CredentialsRejected(f"The file {shown} has a syntax error in line {line}: mend it.")
