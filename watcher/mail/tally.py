"""What has come of a mail, receiver by receiver. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from watcher.errors import PermanentError, SinkPartly, SinkRejected, SinkUnavailable, TransientError

_MOST_EVENTS = 500


@dataclass(slots=True)
class Tally:
    """Who has a mail and who was refused, at every moment of an attempt: it may break off at any."""

    receivers: Sequence[str]
    refused: dict[str, TransientError | PermanentError] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _broken_by: TransientError | PermanentError | None = None

    @property
    def open(self) -> list[str]:
        """Those of whom nothing is known yet."""
        return [each for each in self.receivers if each not in self._told and each not in self.refused]

    @property
    def for_good(self) -> dict[str, str]:
        """Who will never take it, in whose words."""
        return {each: str(error) for each, error in self.refused.items() if isinstance(error, PermanentError)}

    def tell(self, receivers: Iterable[str]) -> None:
        """Note who has it."""
        self._told.update(receivers)

    def refuse(self, receivers: Iterable[str], error: TransientError | PermanentError) -> None:
        """Note who does not have it, and why."""
        self.refused |= dict.fromkeys(receivers, error)

    def break_off(self, error: TransientError | PermanentError) -> None:
        """Note why those do not have it of whom nothing is known yet."""
        self._broken_by = error
        self.refuse(self.open, error)

    def failure(self) -> TransientError | PermanentError | SinkPartly | None:
        """Return what to raise; None if everybody has it. While one may take it later, it is not given up."""
        if not self.refused:
            return None
        if self._told:
            return SinkPartly(self.refused)
        if all(error is self._broken_by for error in self.refused.values()):
            return self._broken_by
        is_for_good = len(self.for_good) == len(self.refused)
        return (SinkRejected if is_for_good else SinkUnavailable)(self._reasons())

    def _reasons(self) -> str:
        """Name each receiver with its reason: first those who wait."""
        by_reason: dict[TransientError | PermanentError, list[str]] = {}
        for receiver, error in self.refused.items():
            by_reason.setdefault(error, []).append(receiver)
        in_order = sorted(by_reason, key=lambda error: isinstance(error, PermanentError))
        return "; ".join(f"{', '.join(by_reason[error])}: {error}" for error in in_order)


class Refusals:
    """Who was refused for good, of the last so many events: what is forgotten costs no more than another question.

    Only words are kept: an error may hold on to the mail it is about.
    """

    def __init__(self, *, most_events: int = _MOST_EVENTS) -> None:
        self._most_events = most_events
        #: The latest last.
        self._by_event: dict[str, Mapping[str, str]] = {}

    def of(self, event: str, receivers: Collection[str]) -> dict[str, TransientError | PermanentError]:
        """Return which of the receivers were refused for good, and why."""
        known = self._by_event.get(event, {})
        return {each: SinkRejected(words) for each, words in known.items() if each in receivers}

    def remember(self, event: str, words: Mapping[str, str]) -> None:
        """Remember all who were refused, by receiver; of the oldest event too many, everything is forgotten."""
        self.forget(event)
        if words:
            self._by_event[event] = words
        while len(self._by_event) > self._most_events:
            del self._by_event[next(iter(self._by_event))]

    def forget(self, event: str) -> None:
        """Let everybody be asked again."""
        self._by_event.pop(event, None)
