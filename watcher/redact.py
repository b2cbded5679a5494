"""What others say of a failure, made fit for a log: without our secrets, in one short line. Pure."""

from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote

from watcher.envelope import excerpt
from watcher.render import one_line

HIDDEN = "…"
MAX_REASON_CHARS = 200


class Redactor:
    """Repeats what others say without ``secrets``, also where they come back percent-encoded or decoded."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        # What holds another one goes first.
        self._forms = sorted(filter(str.strip, forms), key=len, reverse=True)

    @property
    def longest(self) -> int:
        """How many characters the longest hidden text has."""
        return max(map(len, self._forms), default=0)

    def redact(self, text: str) -> str:
        """Return ``text`` with a mark in the place of each secret."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return text

    def reason(self, text: str) -> str:
        """Return ``text`` as one short line without secrets, from whoever it came."""
        return excerpt(one_line(self.redact(text)), MAX_REASON_CHARS)


def _forms(secret: str) -> Iterable[str]:
    # A server that folds lines may also fold what it quotes.
    for form in (secret, one_line(secret)):
        yield from (form, quote(form, safe=""), quote(form), quote_plus(form), unquote(form))
