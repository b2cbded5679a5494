"""What may be made to go wrong, and on which calls."""

from typing import Literal, get_args

import msgspec

FaultKind = Literal[
    "status",
    "in_band",
    "slow",
    "drip",
    "hang",
    "truncated",
    "reset",
    "huge",
    "html",
    "xml",
    "not_json",
    "body",
    "skew",
]
KINDS: tuple[str, ...] = get_args(FaultKind)


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that goes wrong on calls, before anything about them is checked.

    ``status``    HTTP ``status`` (503) with a gateway error body that carries ``code`` and ``message``
    ``in_band``   HTTP 200 with ``Success: false``, the number ``code`` and ``message``
    ``slow``      the right answer after ``seconds`` (5)
    ``drip``      the right answer, a byte every ``seconds`` (0.05)
    ``hang``      no answer ever
    ``truncated`` the right answer, broken off halfway
    ``reset``     the connection is reset
    ``huge``      ``size`` bytes (64 MiB) of valid JSON, ``compressed`` with gzip on demand
    ``html``      a proxy's page, HTTP ``status`` (502)
    ``xml``       the old XML error body, HTTP ``status`` (400)
    ``not_json``  HTTP 200 and half a JSON text
    ``body``      exactly ``body``, else ``text``, as ``content_type``
    ``skew``      the simulator's clock is ``seconds`` (3600) ahead; negative: behind
    """

    kind: FaultKind
    action: str | None = None
    ticket: str | None = None
    #: How many calls it hits; None: until it is cleared.
    times: int | None = None
    seconds: float | None = None
    status: int | None = None
    code: str | int | None = None
    message: str | None = None
    headers: dict[str, str] = {}
    text: str = ""
    #: Base64 where it comes from JSON or YAML.
    body: bytes = b""
    content_type: str = "application/json;charset=utf-8"
    size: int = 64 * 1024 * 1024
    compressed: bool = False

    def __post_init__(self) -> None:
        """Refuse what could never hit."""
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of fault; there are: {', '.join(KINDS)}")
        if self.kind == "in_band" and not str(self.code or 0).isdecimal():
            raise ValueError("code: a number where the failure is in-band")
        if self.times is not None and self.times < 1:
            raise ValueError("times: at least 1, or leave it out to go on until cleared")

    def hits(self, action: str, ticket_id: str) -> bool:
        """Tell whether a call is one that this fault is meant for."""
        return self.action in {None, action} and self.ticket in {None, ticket_id}


class Faults:
    """The faults in force, oldest first, with the number of calls each may still hit."""

    def __init__(self) -> None:
        self._left: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault) -> None:
        """Put a fault in force, behind those that are there."""
        self._left.append((fault, fault.times))

    def clear(self) -> None:
        """End all faults."""
        self._left.clear()

    def active(self) -> list[Fault]:
        """Return the faults in force."""
        return [fault for fault, left in self._left if left != 0]

    def shift(self) -> float:
        """Return the seconds by which the clock is wrong."""
        return sum(3600 if f.seconds is None else f.seconds for f, _ in self._left if f.kind == "skew")

    def strike(self, action: str, ticket_id: str) -> Fault | None:
        """Count a call; return the oldest fault that hits it, if any.

        A skew is not returned, because it changes nothing but the clock; it lasts to the end of the last call
        that it is meant for.
        """
        self._left = [(fault, left) for fault, left in self._left if left != 0]
        struck: Fault | None = None
        for at, (fault, left) in enumerate(self._left):
            if not fault.hits(action, ticket_id) or (struck and fault.kind != "skew"):
                continue
            self._left[at] = (fault, None if left is None else left - 1)
            if fault.kind != "skew":
                struck = fault
        return struck
