"""From the ``auth`` of an account to a source of credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import aiohttp
import anyio

from watcher.config import schema
from watcher.config.secrets import Vault
from watcher.config.values import reveal
from watcher.errors import ConfigError, CredentialsRejected
from watcher.ports import Clock
from watcher.ticketapi.credentials import (
    Credentials,
    CredentialsUri,
    DefaultChain,
    OidcRole,
    Provider,
    RamRole,
    Remote,
)


@dataclass(frozen=True)
class Sources:
    """Builds sources of credentials; what they have in common."""

    session: aiohttp.ClientSession
    clock: Clock
    vault: Vault

    def build(self, account: str, auth: schema.Auth, proxy: str | None) -> Provider:
        """Return what fetches the credentials of an account."""
        match auth:
            case schema.AccessKeyAuth():
                return ConfiguredKey(auth, self.vault, source=f"accounts.{account}.auth")
            case schema.ChainAuth():
                return self._chain(auth, proxy)
            case schema.RoleArnAuth():
                return RamRole(
                    sts=self._remote(proxy, auth.sts_endpoint).sts(),
                    source=self.build(account, auth.source, proxy),
                    role_arn=auth.role_arn,
                    session_name=auth.session_name,
                    duration=auth.duration,
                    external_id=auth.external_id or "",
                )
            case schema.EcsRamRoleAuth():
                return self._remote(proxy).ecs_role(auth.role or "")
            case schema.OidcAuth():
                return self._oidc(auth, proxy)
            case schema.CredentialsUriAuth():
                return CredentialsUri(session=self.session, uri=reveal(auth.uri, self.vault))
            case _:
                assert_never(auth)

    def _chain(self, auth: schema.ChainAuth, proxy: str | None) -> DefaultChain:
        return DefaultChain(
            session=self.session,
            clock=self.clock,
            environment=self.vault.environ,
            profile=auth.profile or "",
            proxy=proxy,
        )

    def _oidc(self, auth: schema.OidcAuth, proxy: str | None) -> OidcRole:
        environ = self.vault.environ
        return OidcRole(
            sts=self._remote(proxy, auth.sts_endpoint).sts(),
            role_arn=auth.role_arn or _required(environ, "ALIBABA_CLOUD_ROLE_ARN"),
            provider_arn=auth.provider_arn or _required(environ, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
            token_file=Path(auth.token_file or _required(environ, "ALIBABA_CLOUD_OIDC_TOKEN_FILE")),
            session_name=auth.session_name,
        )

    def _remote(self, proxy: str | None, sts_endpoint: str | None = None) -> Remote:
        return Remote(
            session=self.session,
            clock=self.clock,
            environment=self.vault.environ,
            home=Path.home(),
            sts_endpoint=sts_endpoint or "",
            proxy=proxy,
        )


class ConfiguredKey:
    """An AccessKey that the configuration refers to; read again at each fetch, so that it may be rotated."""

    def __init__(self, auth: schema.AccessKeyAuth, vault: Vault, *, source: str) -> None:
        self._auth = auth
        self._vault = vault
        self._source = source

    async def fetch(self) -> Credentials:
        """Return the key as it is now."""
        try:
            key_id, secret, token = await anyio.to_thread.run_sync(self._read)
        except ConfigError as error:
            raise CredentialsRejected(f"{self._source}: {error}") from error
        return Credentials(key_id, secret, token, None, self._source)

    def _read(self) -> tuple[str, str, str]:
        references = (self._auth.access_key_id, self._auth.access_key_secret, self._auth.security_token)
        key_id, secret, token = (reveal(reference, self._vault) for reference in references)
        return key_id, secret, token


def _required(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name)
    if not value:
        raise ConfigError(f"auth of type oidc needs the environment variable {name}, or the key that stands for it")
    return value
