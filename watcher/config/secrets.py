"""Secrets: references in the file, values only where they are used."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from watcher.errors import ConfigError

_COMMAND_TIMEOUT_S = 10
_LARGEST_BYTES = 64 * 1024


class Secret:
    """A text that shows itself only when asked by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret('…')"

    def reveal(self) -> str:
        """Return the text itself."""
        return self._value


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """The places that a reference can point to; given once, so that nothing else reads the environment."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def environment(self, name: str) -> Secret:
        """Return the value of an environment variable."""
        value = self.environ.get(name)
        if not value:
            raise ConfigError(f"the environment variable {name} is not set")
        return Secret(value)

    def file(self, path: str) -> Secret:
        """Return the content of a file, without the line break at its end."""
        return Secret(_read(Path(path).expanduser()))

    def credential(self, name: str) -> Secret:
        """Return a credential that systemd handed over (systemd.exec(5), LoadCredential=)."""
        directory = self.environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ConfigError(
                f"there is no $CREDENTIALS_DIRECTORY; run under systemd with LoadCredential={name}:PATH, or write "
                "{file: PATH}"
            )
        return Secret(_read(Path(directory) / name))

    def command(self, words: tuple[str, ...]) -> Secret:
        """Return what a program prints, without the line break at its end; no shell is involved."""
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, from the operator's own file
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_TIMEOUT_S, check=True
            )
            value = done.stdout.decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the command {words[0]} cannot be used: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"the command {words[0]} took longer than {_COMMAND_TIMEOUT_S} s") from error
        except subprocess.CalledProcessError as error:
            # What it printed is left out: it may be half a secret.
            raise ConfigError(f"the command {words[0]} failed with exit status {error.returncode}") from error
        if not value:
            raise ConfigError(f"the command {words[0]} printed nothing")
        return Secret(value)

    @staticmethod
    def find_command(words: tuple[str, ...]) -> None:
        """Raise ``ConfigError`` unless the program exists; it is not run."""
        if not words or shutil.which(words[0]) is None:
            raise ConfigError(f"the command {words[0] if words else ''} does not exist")


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    if len(content) > _LARGEST_BYTES:
        raise ConfigError(f"{path} is larger than {_LARGEST_BYTES} bytes; this is no secret")
    try:
        value = content.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text") from error
    if not value:
        raise ConfigError(f"{path} is empty")
    return value
