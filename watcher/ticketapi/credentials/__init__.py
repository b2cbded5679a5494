"""Where the access key comes from: the vendor's sources and their order, asked without blocking.

Our own code, because the vendor's package (alibabacloud-credentials 1.0.12, whose behaviour this follows)
starts threads, waits on a thread lock inside coroutines, reads the environment once at import, and brings 28
packages.
"""

from watcher.ticketapi.credentials.cache import CachedCredentials
from watcher.ticketapi.credentials.chain import DefaultChain
from watcher.ticketapi.credentials.contract import Credentials, CredentialsAbsent, Provider
from watcher.ticketapi.credentials.files import CliFile, IniFile
from watcher.ticketapi.credentials.local import Command, EnvironmentKey, StaticKey
from watcher.ticketapi.credentials.metadata import METADATA_URL, CredentialsUri, EcsRamRole
from watcher.ticketapi.credentials.remote import Remote
from watcher.ticketapi.credentials.sts import OidcRole, RamRole, Sts, sts_endpoint

__all__ = [
    "METADATA_URL",
    "CachedCredentials",
    "CliFile",
    "Command",
    "Credentials",
    "CredentialsAbsent",
    "CredentialsUri",
    "DefaultChain",
    "EcsRamRole",
    "EnvironmentKey",
    "IniFile",
    "OidcRole",
    "Provider",
    "RamRole",
    "Remote",
    "StaticKey",
    "Sts",
    "sts_endpoint",
]
