"""What can be done to a world from outside: the verbs that scripts and the control endpoint share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import anyio
import msgspec

from watcher.simulator.faults import Fault
from watcher.simulator.records import AGENT, DEALING, NORMAL, STATUSES, URGENT, File, status_number
from watcher.simulator.world import NotThereError, World


class Status(int):
    """A ticket's status, written as number or name."""

    __slots__ = ()


class Severity(int):
    """A ticket's severity, written as ``normal`` or ``urgent``, or as number."""

    __slots__ = ()


def convert(value: Any, type_: type[Any]) -> Any:
    """Return ``value``, in which numbers may be text; raise ``msgspec.ValidationError``."""
    return msgspec.convert(value, type_, strict=False, dec_hook=_read)


def _read(type_: type[Any], value: Any) -> Any:
    text = str(value)
    if type_ is Status:
        return Status(status_number(text))
    numbers = {"normal": NORMAL, "urgent": URGENT, str(NORMAL): NORMAL, str(URGENT): URGENT}
    if type_ is not Severity or text not in numbers:
        raise ValueError(f"{text!r} is not a severity; there are: normal, urgent")
    return Severity(numbers[text])


class FileSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An attachment as text."""

    name: str
    text: str = ""

    def file(self) -> File:
        """Return what the world stores."""
        return File(self.name, self.text.encode()) if self.text else File(self.name)


class Done(NamedTuple):
    """What a verb did, as a sentence for people, and the note it made or changed."""

    sentence: str
    dialog_id: int | None = None


class Verb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something to do. Raises ``NotThereError`` and ``ValueError``, and then has done nothing."""

    def apply(self, world: World) -> Done:
        """Do it."""
        raise NotImplementedError

    def in_round(self, number: int) -> "Verb":
        """Return the verb with ``{round}`` in its texts replaced, so that a script can be repeated."""
        texts = {
            name: value.replace("{round}", str(number))
            for name, value in msgspec.structs.asdict(self).items()
            if isinstance(value, str)
        }
        return msgspec.structs.replace(self, **texts)


class AgentReply(Verb, frozen=True):
    """The support answers."""

    ticket: str
    text: str
    name: str = "Agent 1024"
    attachments: tuple[FileSpec, ...] = ()
    read: bool = False

    def apply(self, world: World) -> Done:
        """Do it."""
        files = [spec.file() for spec in self.attachments]
        note = world.agent_reply(self.ticket, self.text, name=self.name, attachments=files, read=self.read)
        return Done(f"agent replies to {self.ticket}", note)


class CustomerReply(Verb, frozen=True):
    """The customer writes."""

    ticket: str
    text: str
    name: str = "ops-user"
    attachments: tuple[FileSpec, ...] = ()

    def apply(self, world: World) -> Done:
        """Do it."""
        files = [spec.file() for spec in self.attachments]
        note = world.customer_reply(self.ticket, self.text, name=self.name, attachments=files)
        return Done(f"customer replies to {self.ticket}", note)


class Read(Verb, frozen=True):
    """The customer reads one note, or all."""

    ticket: str
    dialog_id: int | None = None

    def apply(self, world: World) -> Done:
        """Do it."""
        world.mark_read(self.ticket, self.dialog_id)
        return Done(f"customer reads {self.ticket}", self.dialog_id)


class SetStatus(Verb, frozen=True):
    """The ticket moves to another state."""

    ticket: str
    status: Status

    def apply(self, world: World) -> Done:
        """Do it."""
        world.set_status(self.ticket, self.status)
        return Done(f"{self.ticket} becomes {STATUSES[self.status][0]}")


class Edit(Verb, frozen=True):
    """A note changes, by default the support's last."""

    ticket: str
    text: str
    dialog_id: int | None = None

    def apply(self, world: World) -> Done:
        """Do it."""
        note = _note_or_last(world, self.ticket, self.dialog_id)
        world.edit(self.ticket, note, self.text)
        return Done(f"a note of {self.ticket} is edited", note)


class Remove(Verb, frozen=True):
    """A note is withdrawn, by default the support's last."""

    ticket: str
    dialog_id: int | None = None

    def apply(self, world: World) -> Done:
        """Do it."""
        note = _note_or_last(world, self.ticket, self.dialog_id)
        world.remove_note(self.ticket, note)
        return Done(f"a note of {self.ticket} is withdrawn", note)


class NewTicket(Verb, frozen=True):
    """A ticket is opened, by default by the first account."""

    ticket: str
    title: str = ""
    description: str = ""
    uid: str | None = None
    status: Status = Status(DEALING)
    severity: Severity = Severity(NORMAL)

    def apply(self, world: World) -> Done:
        """Do it."""
        world.add_ticket(
            self.ticket,
            title=self.title,
            description=self.description,
            uid=self.uid,
            status=self.status,
            severity=self.severity,
        )
        return Done(f"ticket {self.ticket} is opened")


class DisableKey(Verb, frozen=True):
    """A key is switched off."""

    key: str

    def apply(self, world: World) -> Done:
        """Do it."""
        world.disable_key(self.key)
        return Done(f"key {self.key} is disabled")


class EnableKey(Verb, frozen=True):
    """A key is switched on."""

    key: str

    def apply(self, world: World) -> Done:
        """Do it."""
        world.enable_key(self.key)
        return Done(f"key {self.key} is enabled")


class SetQuota(Verb, frozen=True):
    """An account may call that often; without a number, as often as it likes."""

    account: str
    per_second: float | None = None

    def apply(self, world: World) -> Done:
        """Do it."""
        world.set_quota(self.account, self.per_second)
        allowed = "any number of" if self.per_second is None else f"{self.per_second:g}"
        return Done(f"{self.account} may make {allowed} calls a second")


class Inject(Verb, frozen=True, kw_only=False):
    """Something goes wrong from now on."""

    fault: Fault

    def apply(self, world: World) -> Done:
        """Do it."""
        world.inject(self.fault)
        what = self.fault.kind if self.fault.status is None else f"{self.fault.kind} {self.fault.status}"
        span = "until cleared" if self.fault.times is None else f"for {self.fault.times} calls"
        return Done(f"fault {what} {span}")


class ClearFaults(Verb, frozen=True):
    """All is well again."""

    def apply(self, world: World) -> Done:
        """Do it."""
        world.clear_faults()
        return Done("faults are cleared")


@dataclass(frozen=True, slots=True)
class Step:
    """A verb, and when it is done: seconds after the start of its round."""

    at: float
    verb: Verb


@dataclass(frozen=True, slots=True)
class Timeline:
    """Steps in the order of their times; with ``repeat``, rounds of that many seconds without end."""

    steps: tuple[Step, ...] = ()
    repeat: float | None = None


async def play(
    world: World,
    timeline: Timeline,
    clock_sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    on_step: Callable[[str], object] | None = None,
) -> None:
    """Do the steps in their time, and tell each as a sentence; without ``repeat``, return after the last.

    A step that has become impossible, because somebody used the control endpoint meanwhile, is told and left
    out.
    """
    for number in count(1):
        elapsed = 0.0
        for step in timeline.steps:
            await clock_sleep(step.at - elapsed)
            elapsed = step.at
            try:
                sentence = step.verb.in_round(number).apply(world).sentence
            except (NotThereError, ValueError) as error:
                sentence = f"left out a step: {error}"
            if on_step is not None:
                on_step(sentence)
        if timeline.repeat is None:
            return
        await clock_sleep(timeline.repeat - elapsed)


def _note_or_last(world: World, ticket: str, dialog_id: int | None) -> int:
    if dialog_id is not None:
        return dialog_id
    for note in reversed(world.ticket(ticket).notes.values()):
        if note.role == AGENT:
            return note.dialog_id
    raise NotThereError(f"ticket {ticket} has no note of the support")
