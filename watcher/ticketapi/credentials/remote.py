"""What all sources of one account share when they ask over the network."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from watcher.ports import Clock
from watcher.ticketapi.credentials.local import switched_on
from watcher.ticketapi.credentials.metadata import METADATA_URL, EcsRamRole
from watcher.ticketapi.credentials.sts import Sts, sts_endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """The means to reach STS and the metadata service, as environment and configuration want them reached."""

    session: aiohttp.ClientSession
    clock: Clock
    environment: Mapping[str, str]
    home: Path
    #: Overrides every region; a whole address.
    sts_endpoint: str = ""
    metadata_url: str = METADATA_URL
    #: For STS only.
    proxy: str | None = None

    def sts(self, *, region: str = "", vpc: bool | None = None) -> Sts:
        """Return the STS of a region; where nothing is said, the environment decides."""
        endpoint = self.sts_endpoint or sts_endpoint(self.environment, region=region, vpc=vpc)
        return Sts(session=self.session, clock=self.clock, endpoint=endpoint, proxy=self.proxy)

    def ecs_role(self, role: str) -> EcsRamRole:
        """Return the instance's role of this name, or with "" whichever it has."""
        tokenless = not switched_on(self.environment, "ALIBABA_CLOUD_IMDSV1_DISABLED")
        return EcsRamRole(session=self.session, role=role, tokenless=tokenless, base_url=self.metadata_url)

    def shown(self, path: Path) -> str:
        """Return a path as people write it."""
        return f"~/{path.relative_to(self.home)}" if path.is_relative_to(self.home) else str(path)
