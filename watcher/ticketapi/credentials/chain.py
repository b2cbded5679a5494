"""The vendor's default chain: the first source that is set up on this machine."""

import os
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import structlog

from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.ports import Clock
from watcher.ticketapi.credentials.contract import Credentials, CredentialsAbsent, Provider
from watcher.ticketapi.credentials.files import CliFile, IniFile
from watcher.ticketapi.credentials.local import EnvironmentKey, switched_on, variable
from watcher.ticketapi.credentials.metadata import METADATA_URL, CredentialsUri
from watcher.ticketapi.credentials.remote import Remote
from watcher.ticketapi.credentials.sts import OidcRole

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class DefaultChain:
    """Environment, OIDC, command line file, INI file, ECS, credentials URI: in the vendor's order.

    A source that is not set up is passed over. One that is set up but broken or out of reach ends the chain,
    so that no other identity takes its place unnoticed. The one that answered is asked first the next time;
    when it fails, the chain is walked again.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        home: Path | None = None,
        profile: str = "",
        sts_endpoint: str = "",
        metadata_url: str = METADATA_URL,
        proxy: str | None = None,
    ) -> None:
        remote = Remote(
            session=session,
            clock=clock,
            environment=os.environ if environment is None else environment,
            home=Path.home() if home is None else home,
            sts_endpoint=sts_endpoint,
            metadata_url=metadata_url,
            proxy=proxy,
        )
        self._providers: tuple[Provider, ...] = (
            EnvironmentKey(environment=remote.environment),
            _EnvironmentOidc(remote),
            CliFile(remote=remote, profile=profile),
            IniFile(remote=remote, profile=profile),
            _EnvironmentEcs(remote),
            _EnvironmentUri(remote),
        )
        self._preferred: Provider | None = None

    async def fetch(self) -> Credentials:
        """Ask the source that answered last, else all in order."""
        if self._preferred is not None:
            try:
                return await self._preferred.fetch()
            except (ApiUnavailable, CredentialsRejected) as error:
                log.info("the source of the credentials fails; all sources are tried", error=str(error))
        return await self._walk()

    async def _walk(self) -> Credentials:
        reasons = []
        for provider in self._providers:
            try:
                found = await provider.fetch()
            except CredentialsAbsent as error:
                reasons.append(str(error))
            else:
                self._preferred = provider
                log.info("credentials found", source=found.source)
                return found
        raise CredentialsRejected(
            "No Alibaba Cloud credentials are set up: set up one of these sources, or name a key in the"
            f" configuration. {' '.join(reasons)}"
        )


class _EnvironmentOidc:
    """The role that three variables describe, as ACK sets them in pods."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def fetch(self) -> Credentials:
        environment = self._remote.environment
        names = (
            "ALIBABA_CLOUD_ROLE_ARN",
            "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
            "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        )
        role_arn, provider_arn, token_file = (variable(environment, name) for name in names)
        if missing := [name for name in names if not variable(environment, name)]:
            raise CredentialsAbsent(f"For OIDC, the environment lacks {', '.join(missing)}.")
        role = OidcRole(
            sts=self._remote.sts(),
            role_arn=role_arn,
            provider_arn=provider_arn,
            token_file=Path(token_file),
            session_name=variable(environment, "ALIBABA_CLOUD_ROLE_SESSION_NAME"),
        )
        return await role.fetch()


class _EnvironmentEcs:
    """The role of this ECS instance, if this is one: that is known for sure only once it has answered."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._answered = False

    async def fetch(self) -> Credentials:
        environment = self._remote.environment
        if switched_on(environment, "ALIBABA_CLOUD_ECS_METADATA_DISABLED"):
            raise CredentialsAbsent("ALIBABA_CLOUD_ECS_METADATA_DISABLED switches the ECS metadata service off.")
        role = variable(environment, "ALIBABA_CLOUD_ECS_METADATA")
        try:
            found = await self._remote.ecs_role(role).fetch()
        except ApiUnavailable as error:
            if role or self._answered:
                raise
            raise CredentialsAbsent(str(error)) from error
        self._answered = True
        return found


class _EnvironmentUri:
    """The address in ``ALIBABA_CLOUD_CREDENTIALS_URI``."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def fetch(self) -> Credentials:
        name = "ALIBABA_CLOUD_CREDENTIALS_URI"
        if not (uri := variable(self._remote.environment, name)):
            raise CredentialsAbsent(f"The environment variable {name} is not set.")
        return await CredentialsUri(session=self._remote.session, uri=uri).fetch()
