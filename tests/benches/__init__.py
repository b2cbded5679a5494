"""One bench for each type of sink: a real sink in front of a receiver that does what it is told.

``tests/test_sink_contract.py`` runs the same suite on all of them. A file here is named after the sink's type and has
one async context manager, ``open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from watcher.ports import Sink


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A sink and the strings that move its receiver."""

    sink: Sink
    #: What the receiver took, in order: for each message the event's id where the message carries it, else the
    #: whole message, so that a repeat is equal to what it repeats.
    received: Callable[[], list[str]]
    #: Let the next attempt fail for a reason that may pass.
    fails: Callable[[], None]
    #: Let the next attempt be refused for good; None where such a thing does not exist.
    refuses: Callable[[], None] | None
    #: Let the next attempt get no answer.
    hangs: Callable[[], None]
    #: Texts that must appear in no error, log line or repr.
    secrets: Sequence[str] = field(default=())
