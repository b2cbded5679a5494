"""The shape of watcher.yaml. Every key stands here with its meaning; `watcher schema` prints it for editors."""

from datetime import timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, WithJsonSchema, field_validator, model_validator

from watcher.config.common import RetryModel
from watcher.config.sinks import Sink
from watcher.config.values import (
    Duration,
    FilePath,
    Model,
    Name,
    Rate,
    Scalar,
    SecretRef,
    Share,
    Text,
    TicketNumber,
    Zone,
    check_url,
    type_list,
)
from watcher.model import Content, FirstRun, Language, TicketStatus

_CONSOLES = {
    "cn": "https://workorder.console.aliyun.com/",
    "intl": "https://workorder-intl.console.aliyun.com/",
}
_REGIONS = Literal["ap-southeast-1", "ap-northeast-1"]

# --- accounts ---------------------------------------------------------------------------------------------


class ChainAuth(Model):
    """The vendor's standard chain: environment, OIDC, CLI profile, credentials file, instance role, URI."""

    type: Literal["chain"] = "chain"
    profile: Text | None = None
    """The profile of `~/.aliyun/config.json` or section of the credentials file; absent, the current one."""


class AccessKeyAuth(Model):
    """An AccessKey, for good or (with a token) for a while."""

    type: Literal["access_key"]
    access_key_id: SecretRef | Text
    """The id; it is no secret, but may be referred to like one."""
    access_key_secret: SecretRef
    security_token: SecretRef | None = None


class RoleArnAuth(Model):
    """A RAM role, assumed with the credentials of the chain or with an AccessKey given here."""

    type: Literal["role_arn"]
    role_arn: Text
    session_name: Text = "watcher"
    external_id: Text | None = None
    duration: Duration = timedelta(hours=1)
    source: Annotated[ChainAuth | AccessKeyAuth, Field(discriminator="type")] = ChainAuth()
    sts_endpoint: Text | None = None
    """The Security Token Service as a full address; absent, the public one."""


class EcsRamRoleAuth(Model):
    """The role of the ECS instance on which this runs (IMDSv2)."""

    type: Literal["ecs_ram_role"]
    role: Text | None = None
    """The name of the role; absent, it is asked for."""


class OidcAuth(Model):
    """A role assumed with an OIDC token (RRSA in a cluster); absent keys come from the standard variables."""

    type: Literal["oidc"]
    role_arn: Text | None = None
    provider_arn: Text | None = None
    token_file: Text | None = None
    session_name: Text = "watcher"
    sts_endpoint: Text | None = None


class CredentialsUriAuth(Model):
    """Credentials served at an address."""

    type: Literal["credentials_uri"]
    uri: SecretRef | Text


Auth = Annotated[
    ChainAuth | AccessKeyAuth | RoleArnAuth | EcsRamRoleAuth | OidcAuth | CredentialsUriAuth,
    Field(discriminator="type"),
]


class AccountModel(Model):
    """One credential and the endpoint it is for."""

    site: Literal["cn", "intl"] = "cn"
    """Chooses endpoint and console link."""
    region: _REGIONS | None = None
    """Chooses one of the two endpoints that are not the central one."""
    endpoint: Text | None = None
    """A full address instead of `site` and `region`; plain http only to a loopback address."""
    auth: Auth = ChainAuth()
    uids: Annotated[list[Text], type_list] = []
    """A reseller's customers whose tickets are watched with this credential."""
    quota: Rate | None = None
    """Calls that may be spent, e.g. `5/s`; absent, it is learnt."""
    proxy: SecretRef | Text | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""
    ticket_url: Text | None = None
    """Where people open a ticket; `{ticket_id}` is replaced."""

    @field_validator("endpoint")
    @classmethod
    def _is_endpoint(cls, value: str | None) -> str | None:
        return value and check_url(value, schemes=("http", "https"), plain_only_to_loopback=True)

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, value: SecretRef | str | None) -> SecretRef | str | None:
        return check_url(value, schemes=("https", "http")) if isinstance(value, str) else value

    @property
    def console(self) -> str:
        """Where people open a ticket."""
        return self.ticket_url or _CONSOLES[self.site]


# --- defaults and watches ---------------------------------------------------------------------------------


class PollModel(Model):
    """How often a ticket is asked for."""

    interval: Duration | None = None
    """Time between two looks at a ticket (60s)."""
    jitter: Share | None = None
    """Share of the interval by which a look may come earlier or later (10%)."""
    idle_interval: Duration | None = None
    """Time between two looks at a ticket that was silent for a day; absent, the interval holds."""


class DefaultPollModel(PollModel):
    """How often tickets are asked for, and how long a call may take."""

    timeout: Duration = timedelta(seconds=20)
    """Time limit of one call, with all its attempts."""


class DefaultsModel(Model):
    """What every watch and every sink inherits."""

    timezone: Zone = ZoneInfo("UTC")
    """For times of day in texts."""
    language: Language = Language.ENGLISH
    """Of the texts that we write: `en` or `zh`; replies are never translated."""
    poll: DefaultPollModel = DefaultPollModel()
    first_run: FirstRun = FirstRun.UNREAD
    """What a new watch says of older notes: what is unread, nothing, or everything."""
    content: Content = Content.EXCERPT
    """How much of a reply leaves us."""
    retry: RetryModel = RetryModel()
    to: Annotated[list[Text], type_list] | None = None
    """The sinks that events go to; absent, all of them."""


def _read_status(value: Any) -> Any:
    if value == "open":
        return [status.value for status in TicketStatus if status.is_open and status is not TicketStatus.UNKNOWN]
    return [value] if isinstance(value, str) else value


class DiscoverModel(Model):
    """Which tickets of the account are watched, found through ListTickets."""

    status: Annotated[list[TicketStatus], Field(json_schema_extra={"type": ["array", "string"]})] = [
        status for status in TicketStatus if status.is_open and status is not TicketStatus.UNKNOWN
    ]
    """Their status; `open` is short for everything but confirmed."""
    created_within: Duration = timedelta(days=90)
    """Their age at the most: the API filters by creation."""
    every: Duration = timedelta(minutes=5)
    """How often the list is read."""

    _short = field_validator("status", mode="before")(_read_status)


class WatchModel(Model):
    """A set of tickets of one account: listed by hand, discovered, or both."""

    account: Text | None = None
    """The account; needed only where there are several."""
    tickets: Annotated[list[TicketNumber], Field(min_length=1), type_list] = []
    """Ticket numbers."""
    discover: DiscoverModel | None = None
    poll: PollModel = PollModel()
    events: Annotated[list[Literal["reply"]], Field(min_length=1), type_list] = ["reply"]
    """What is announced."""
    first_run: FirstRun | None = None
    labels: dict[Name, Scalar] = {}
    """Free labels; they stand in every event."""


# --- the service ------------------------------------------------------------------------------------------


class StorageModel(Model):
    """Where the state is kept."""

    path: FilePath | None = None
    """The SQLite file; absent, `watcher.db` in the state directory."""
    history: Duration = timedelta(days=90)
    """How long texts and delivered events are kept."""


class LogModel(Model):
    """What the daemon says of itself, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "journald", "json"] = "auto"
    """`auto` is journald under systemd and text elsewhere."""


class ConfigModel(Model):
    """The configuration of watcher."""

    version: Annotated[Literal["1"], WithJsonSchema({"enum": ["1", 1]})]
    """The version of this format."""
    include: Annotated[list[Text], type_list] = []
    """Further files (patterns allowed), merged in the order of their names."""
    accounts: Annotated[dict[Name, AccountModel], Field(min_length=1)]
    defaults: DefaultsModel = DefaultsModel()
    watches: dict[Name, WatchModel] = {}
    """Absent, every open ticket of every account is watched."""
    sinks: Annotated[dict[Name, Sink], Field(min_length=1)]
    storage: StorageModel = StorageModel()
    log: LogModel = LogModel()

    @model_validator(mode="before")
    @classmethod
    def _empty_section_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {section: content for section, content in value.items() if content is not None}
