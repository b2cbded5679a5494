"""Reads a script: whose tickets there are, what is in them, and what happens to them in time.

    accounts:                       # without any: one with key id and secret `simulator`
      shop:
        uid: "1000000000000001"
        keys: {LTAIshop: {secret: made-up}}         # also token, disabled
        customers: ["1000000000000002"]             # a reseller's
        quota: 10                                   # calls a second
    tickets:
      00051234:
        title: Disk full
        status: wait_feedback                       # name or number; also severity: urgent, uid, ago: 2d
        notes:
          - {by: customer, ago: 3h, text: Help!}
          - {by: agent, ago: 2h, text: Looking., attachments: [{name: a.log, text: ...}], read: false}
    timeline:
      - {at: 5s, agent-reply: {ticket: 00051234, text: Solved.}}    # at: since the start
      - {after: 3s, status: {ticket: 00051234, status: confirmed}}  # after: since the step before
    repeat: 60s                     # from the start again; `{round}` in a text is the number of the round

The keys of a step are the verbs of ``steps``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import msgspec

from watcher.document import Key as Place
from watcher.duration import parse_duration
from watcher.errors import ConfigError
from watcher.simulator import steps
from watcher.simulator.faults import Fault
from watcher.simulator.limits import Quota
from watcher.simulator.records import AGENT, CUSTOMER, DEALING, NORMAL, READ, UNREAD, Account, Key
from watcher.simulator.source import Source
from watcher.simulator.steps import FileSpec, Severity, Status, Step, Timeline, Verb
from watcher.simulator.world import NotThereError, World

#: A few tickets and the account ``simulator``; nothing happens by itself.
DEFAULT_SCRIPT: Traversable = files("watcher.simulator") / "default.yaml"
#: A minute in the life of a support desk, again and again.
DEMO_SCRIPT: Traversable = files("watcher.simulator") / "demo.yaml"


@dataclass(frozen=True, slots=True)
class Script:
    """A world as it is at the start, and what is going to happen to it."""

    world: World
    timeline: Timeline


class _Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """Something written in a script."""


class _Key(_Spec, frozen=True):
    secret: str
    token: str = ""
    disabled: bool = False


class _Account(_Spec, frozen=True):
    uid: str
    keys: dict[str, _Key] = {}
    customers: tuple[str, ...] = ()
    quota: float | None = None


class _Note(_Spec, frozen=True):
    by: Literal["agent", "customer"]
    text: str
    name: str | None = None
    ago: str = "0s"
    read: bool = True
    attachments: tuple[FileSpec, ...] = ()


class _Ticket(_Spec, frozen=True):
    title: str = ""
    description: str = ""
    uid: str | None = None
    status: Status = Status(DEALING)
    severity: Severity = Severity(NORMAL)
    ago: str = "1d"
    notes: tuple[_Note, ...] = ()


class _Step(_Spec, frozen=True):
    at: str | None = None
    after: str | None = None
    agent_reply: steps.AgentReply | None = None
    customer_reply: steps.CustomerReply | None = None
    read: steps.Read | None = None
    status: steps.SetStatus | None = None
    edit: steps.Edit | None = None
    remove: steps.Remove | None = None
    ticket: steps.NewTicket | None = None
    disable_key: steps.DisableKey | None = None
    enable_key: steps.EnableKey | None = None
    quota: steps.SetQuota | None = None
    fault: Fault | None = None
    clear_faults: steps.ClearFaults | None = None


class _File(_Spec, frozen=True):
    accounts: dict[str, Any] = {}
    tickets: dict[str, Any] = {}
    timeline: list[Any] = []
    repeat: str | None = None


def load_script(path: Path | Traversable | None = None, *, now: Callable[[], float] = time.time) -> Script:
    """Read a script, or the packaged ``DEFAULT_SCRIPT``; raise ``ConfigError`` that names file and line."""
    source_path = DEFAULT_SCRIPT if path is None else path
    try:
        text = source_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    source = Source(str(source_path), text)
    file: _File = source.read((), _File)
    repeat = None if file.repeat is None else _seconds(source, ("repeat",), file.repeat)
    timeline = Timeline(_steps(source), repeat)
    if timeline.steps and timeline.repeat is not None and timeline.repeat < timeline.steps[-1].at:
        raise source.wrong(("repeat",), "repeat: shorter than the timeline")
    _rehearse(source, timeline)
    return Script(_world(source, now), timeline)


def _world(source: Source, now: Callable[[], float]) -> World:
    world: World | None = None
    for place in source.keys("accounts"):
        account = _account(source, place, now())
        try:
            if world is None:
                world = World([account], now=now)
            else:
                world.add_account(account)
        except ValueError as error:
            raise source.wrong(place, error) from error
    world = world or World(now=now)
    for place in source.keys("tickets"):
        _add_ticket(source, place, world)
    return world


def _account(source: Source, place: Place, now: float) -> Account:
    spec: _Account = source.read(place, _Account)
    keys = [
        Key(id=key_id, secret=key.secret, token=key.token, disabled=key.disabled) for key_id, key in spec.keys.items()
    ]
    try:
        quota = None if spec.quota is None else Quota(spec.quota, now)
    except ValueError as error:
        raise source.wrong(place, error) from error
    return Account(name=str(place[-1]), uid=spec.uid, keys=keys, customers=frozenset(spec.customers), quota=quota)


def _add_ticket(source: Source, place: Place, world: World) -> None:
    spec: _Ticket = source.read(place, _Ticket)
    ticket_id = str(place[-1])
    world.add_ticket(
        ticket_id,
        title=spec.title,
        description=spec.description,
        uid=spec.uid,
        status=spec.status,
        severity=spec.severity,
        at=world.now() - _seconds(source, place, spec.ago),
    )
    for note in spec.notes:
        is_agent = note.by == "agent"
        world.add_note(
            ticket_id,
            note.text,
            role=AGENT if is_agent else CUSTOMER,
            name=note.name or ("Agent 1024" if is_agent else "ops-user"),
            status=READ if note.read else UNREAD,
            attachments=[each.file() for each in note.attachments],
            at=world.now() - _seconds(source, place, note.ago),
        )


def _steps(source: Source) -> tuple[Step, ...]:
    steps_: list[Step] = []
    for place in source.keys("timeline"):
        spec: _Step = source.read(place, _Step)
        if (spec.at is None) == (spec.after is None):
            raise source.wrong(place, "a step has either `at` or `after`")
        before = steps_[-1].at if steps_ else 0.0
        at = _seconds(source, place, spec.at or spec.after or "") + (before if spec.at is None else 0.0)
        if at < before:
            raise source.wrong(place, "steps stand in the order of their times")
        steps_.append(Step(at, _verb(source, place, spec)))
    return tuple(steps_)


def _verb(source: Source, place: Place, spec: _Step) -> Verb:
    fields = msgspec.structs.asdict(spec)
    given = [value for name, value in fields.items() if name not in {"at", "after"} and value is not None]
    if len(given) != 1:
        raise source.wrong(place, "a step does exactly one thing")
    return steps.Inject(given[0]) if isinstance(given[0], Fault) else given[0]


def _rehearse(source: Source, timeline: Timeline) -> None:
    """Do every step of two rounds in a world that is thrown away, so that mistakes show before the start."""
    world = _world(source, time.time)
    for number in (1, 2) if timeline.repeat is not None else (1,):
        for step, place in zip(timeline.steps, source.keys("timeline"), strict=True):
            try:
                step.verb.in_round(number).apply(world)
            except (NotThereError, ValueError) as error:
                raise source.wrong(place, error) from error


def _seconds(source: Source, place: Place, text: str) -> float:
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise source.wrong(place, error) from error
