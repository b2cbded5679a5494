"""What is new in a snapshot: tables of cases, and properties of any history."""

import re
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import account, at, event, note, rule, snapshot, ticket
from watcher.detect import detect, digest, event_id, was_read
from watcher.model import Account, Event, FirstRun, Kind, Known, Note, Read, Role

FRESH = Known()


def told(notes: tuple[Note, ...] | list[Note], known: Known, first_run: FirstRun = FirstRun.UNREAD) -> list[Event]:
    return list(detect(snapshot(*notes), known, rule(first_run=first_run)).events)


def kinds(notes: list[Note], known: Known = FRESH, first_run: FirstRun = FirstRun.UNREAD) -> dict[str, Kind]:
    return {each.note.id: each.kind for each in told(notes, known, first_run) if each.note}


def knowing(*notes: Note) -> Known:
    # An answer without notes is no look: something was there before.
    return Known(is_looked_at=True, notes={"first": Read.READ} | {each.id: each.read for each in notes})


def after(known: Known, notes: list[Note]) -> Known:
    """Return what the store remembers once a look was recorded."""
    found = detect(snapshot(*notes), known, rule())
    rows = {each.id: each.read for each in (*found.new_notes, *found.changed_notes)}
    return Known(is_looked_at=True, notes={**known.notes, **rows})


# --- the first look ---------------------------------------------------------------------------------------

# The watch began at minute 30.
OLD, EDGE, NEW = 0.0, 30.0, 31.0
R, U = Kind.REPLY, Kind.UNREAD


@pytest.mark.parametrize(
    ("minutes", "read", "by_policy"),
    [
        (OLD, Read.UNREAD, {"unread": U, "nothing": None, "everything": R}),
        (OLD, Read.READ, {"unread": None, "nothing": None, "everything": R}),
        (OLD, Read.UNKNOWN, {"unread": U, "nothing": None, "everything": R}),
        (EDGE, Read.UNREAD, {"unread": R, "nothing": R, "everything": R}),
        (EDGE, Read.READ, {"unread": R, "nothing": R, "everything": R}),
        (NEW, Read.UNREAD, {"unread": R, "nothing": R, "everything": R}),
        (NEW, Read.READ, {"unread": R, "nothing": R, "everything": R}),
        (NEW, Read.UNKNOWN, {"unread": R, "nothing": R, "everything": R}),
    ],
)
@pytest.mark.parametrize("policy", FirstRun)
def test_at_the_first_look_age_read_state_and_policy_decide(
    policy: FirstRun, minutes: float, read: Read, by_policy: dict[str, Kind | None]
) -> None:
    expected = by_policy[policy.value]
    for role in (Role.AGENT, Role.UNKNOWN):
        found = kinds([note(1, by=role, read=read, minutes=minutes)], first_run=policy)
        assert found == ({"1": expected} if expected else {})


@pytest.mark.parametrize(
    ("read", "by_policy"),
    [
        (Read.UNREAD, {"unread": U, "nothing": None, "everything": R}),
        (Read.READ, {"unread": None, "nothing": None, "everything": R}),
    ],
)
@pytest.mark.parametrize("policy", FirstRun)
def test_a_note_without_a_time_counts_as_old(policy: FirstRun, read: Read, by_policy: dict[str, Kind | None]) -> None:
    expected = by_policy[policy.value]
    assert kinds([note(1, read=read, created_at=None)], first_run=policy) == ({"1": expected} if expected else {})


@pytest.mark.parametrize(
    ("read", "answer_minutes", "is_told"),
    [
        (Read.UNKNOWN, 1, False),
        (Read.UNKNOWN, -1, True),
        (Read.UNREAD, 1, True),
        (Read.READ, -1, False),
    ],
)
def test_where_the_status_says_nothing_a_later_note_of_the_customer_counts_as_reading(
    read: Read, answer_minutes: float, is_told: bool
) -> None:
    conversation = [note(1, read=read), note(2, by=Role.CUSTOMER, minutes=answer_minutes)]
    assert kinds(conversation) == ({"1": Kind.UNREAD} if is_told else {})


def test_a_later_note_of_another_agent_is_no_reading() -> None:
    assert set(kinds([note(1, read=Read.UNKNOWN), note(2, read=Read.UNKNOWN, minutes=1)])) == {"1", "2"}


def test_the_first_look_remembers_every_note_and_an_empty_one_counts() -> None:
    notes = [note(1), note(2, by=Role.CUSTOMER), note(3, read=Read.READ)]
    found = detect(snapshot(*notes), FRESH, rule())
    assert ([each.id for each in found.new_notes], found.is_first_look) == (["1", "2", "3"], True)
    empty = detect(snapshot(), FRESH, rule())
    assert (empty.is_first_look, empty.is_nothing, empty.events) == (True, False, ())


# --- later looks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", FirstRun)
@pytest.mark.parametrize("read", Read)
@pytest.mark.parametrize("minutes", [-100_000.0, OLD, NEW, 100_000.0])
@pytest.mark.parametrize(("role", "is_told"), [(Role.AGENT, True), (Role.UNKNOWN, True), (Role.CUSTOMER, False)])
def test_later_every_unknown_note_but_the_customers_is_told_whatever_it_says(
    policy: FirstRun, read: Read, minutes: float, role: Role, is_told: bool
) -> None:
    known = knowing(note(1))
    latest = note(2, by=role, read=read, minutes=minutes)
    found = detect(snapshot(note(1), latest), known, rule(first_run=policy))
    assert found.new_notes == (latest,)
    assert [each.kind for each in found.events] == ([Kind.REPLY] if is_told else [])


@pytest.mark.parametrize(
    ("seen", "now", "told_ids"),
    [
        ([1, 2], [1, 2], []),
        ([1, 2], [], []),
        ([1, 2], [2], []),
        ([1, 2], [2, 1], []),
        ([1, 3], [1, 2, 3], ["2"]),
        ([5], [4, 5], ["4"]),
        ([], [1], ["1"]),
        ([1], [2], ["2"]),
        ([100], [99, 100, 101], ["99", "101"]),
    ],
)
def test_membership_decides_not_a_newest_mark(seen: list[int], now: list[int], told_ids: list[str]) -> None:
    known = knowing(*(note(number) for number in seen))
    # All in the same millisecond: only the ids differ.
    assert [each.note.id for each in told([note(number) for number in now], known) if each.note] == told_ids


def test_nothing_new_is_nothing_to_write_down() -> None:
    assert detect(snapshot(note(1)), knowing(note(1)), rule()).is_nothing
    assert detect(snapshot(), knowing(note(1)), rule()).is_nothing


def test_a_note_that_vanished_and_comes_back_is_not_told_again() -> None:
    known = after(after(knowing(), [note(1), note(2)]), [note(1)])
    assert told([note(1), note(2)], known) == []


def test_an_edited_note_is_not_told_again() -> None:
    assert detect(snapshot(note(1, text="edited")), knowing(note(1)), rule()).is_nothing


@pytest.mark.parametrize("before", Read)
@pytest.mark.parametrize("now", Read)
def test_a_changed_read_state_is_written_down_and_not_told(before: Read, now: Read) -> None:
    found = detect(snapshot(note(1, read=now)), knowing(note(1, read=before)), rule())
    assert found.changed_notes == (() if before is now else (note(1, read=now),))
    assert (found.events, found.new_notes, found.is_nothing) == ((), (), before is now)


@pytest.mark.parametrize(
    ("before", "now", "is_read"),
    [
        ([note(1)], [note(1, read=Read.READ)], True),
        ([note(1), note(2)], [note(1, read=Read.READ), note(2)], False),
        ([note(1), note(2)], [note(1, read=Read.READ), note(2, read=Read.READ)], True),
        # Read, but there is news.
        ([note(1)], [note(1, read=Read.READ), note(2)], False),
        # What the customer wrote is nobody's to read.
        ([note(1)], [note(1, read=Read.READ), note(2, by=Role.CUSTOMER)], True),
        ([note(1, by=Role.CUSTOMER)], [note(1, by=Role.CUSTOMER, read=Read.READ)], False),
        # Neither is a state that nobody understands a reading, nor a note that was never seen unread.
        ([note(1)], [note(1, read=Read.UNKNOWN)], False),
        ([], [note(1, read=Read.READ)], False),
        ([note(1, read=Read.READ)], [note(1, read=Read.READ)], False),
    ],
)
def test_a_ticket_was_read_when_its_last_unread_answer_became_read(
    before: list[Note],
    now: list[Note],
    is_read: bool,
) -> None:
    seen = snapshot(*now)
    assert was_read(seen, detect(seen, knowing(*before), rule())) is is_read


def test_events_come_in_the_order_of_the_notes() -> None:
    notes = [note(number, minutes=number) for number in (1, 2, 3)]
    assert [each.note for each in told(notes, knowing())] == notes


# --- what an event says -----------------------------------------------------------------------------------


def test_an_event_says_who_what_and_when() -> None:
    shot = snapshot(note(1, minutes=31), account=account(uid="42"))
    (found,) = detect(shot, knowing(), rule(labels={"team": "db"})).events
    assert (found.account, found.ticket, found.note) == (shot.account, shot.ticket, shot.notes[0])
    assert (found.watch, found.labels, found.recorded_at) == ("production", {"team": "db"}, at(60))
    assert (found.url, found.occurred_at) == ("https://console.example/0005PYGCW", at(31))
    assert found.id == event_id("42", "0005PYGCW", "1")


def test_a_ticket_id_cannot_change_the_address_it_is_put_into() -> None:
    shot = snapshot(note(1), ticket=ticket("a/../b?c=\x1b d"))
    (found,) = detect(shot, knowing(), rule()).events
    assert found.url == "https://console.example/a%2F..%2Fb%3Fc%3D%1B%20d"


@pytest.mark.parametrize(
    ("notes", "in_ticket", "since"),
    [
        ([note(9)], 1, 0.0),
        ([note(9, read=Read.READ)], 0, None),
        ([note(9, read=Read.UNKNOWN)], 0, None),
        ([note(1, minutes=-2), note(2, minutes=-1, read=Read.READ), note(9)], 2, -2.0),
        ([note(1, minutes=-2, by=Role.CUSTOMER), note(9)], 1, 0.0),
        ([note(1, minutes=-2, by=Role.UNKNOWN), note(9)], 2, -2.0),
    ],
)
def test_an_event_counts_what_is_unread_in_its_ticket(notes: list[Note], in_ticket: int, since: float | None) -> None:
    known = knowing(*notes[:-1])
    (found,) = told(notes, known)
    assert (found.unread.in_ticket, found.unread.since) == (in_ticket, None if since is None else at(since))


def test_an_unread_note_without_a_time_is_counted_without_a_since() -> None:
    (found,) = told([note(1, created_at=None)], knowing())
    assert (found.unread.in_ticket, found.unread.since, found.occurred_at) == (1, None, at(60))


# --- ids --------------------------------------------------------------------------------------------------


def test_an_id_never_changes() -> None:
    # A consumer may have stored these: another value here is a breaking change.
    assert event_id("1604499804113750", "0005PYGCW", "160203923") == "msg_wqlni4m3aoh3aqrgkhvhd5u5w3"
    assert event_id("prod", "T", "1") == "msg_rttsicbknqcvqmqrv5pmtkliq6"


def test_a_reply_and_the_same_note_found_unread_after_a_loss_have_one_id() -> None:
    (first,) = told([note(1)], knowing())
    (again,) = told([note(1)], FRESH)
    assert (first.kind, again.kind) == (Kind.REPLY, Kind.UNREAD)
    assert first.id == again.id


def test_ids_depend_on_nothing_but_account_ticket_and_note() -> None:
    one = snapshot(note(1))
    other = snapshot(note(1, text="edited", read=Read.UNKNOWN, minutes=5, by=Role.UNKNOWN), minutes=600)
    ids = {detect(shot, knowing(), rule(name=name)).events[0].id for shot in (one, other) for name in ("a", "b")}
    assert len(ids) == 1


@pytest.mark.parametrize(("uid", "key"), [("", "prod"), ("42", "42")])
def test_the_account_of_an_id_is_its_uid_or_its_name(uid: str, key: str) -> None:
    assert Account(name="prod", uid=uid).key == key


@given(st.lists(st.tuples(st.text(), st.text(), st.text(), st.text(), st.integers()), unique=True, max_size=20))
def test_ids_have_the_form_that_webhooks_ask_for_and_differ(parts: list[tuple[str, str, str, str, int]]) -> None:
    ids = {event_id(account_, ticket_, note_, kind=kind, n=n) for account_, ticket_, note_, kind, n in parts}
    assert len(ids) == len(parts)
    assert all(re.fullmatch(r"msg_[a-z2-7]{26}", each) for each in ids)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "bc", "d"), ("ab", "c", "d")), (("1:a", "b", "c"), ("1", ":ab", "c")), (("", "a", ""), ("a", "", ""))],
)
def test_parts_that_run_into_one_another_differ(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert event_id(*one) != event_id(*other)


# --- digests ----------------------------------------------------------------------------------------------


def test_a_digest_tells_its_events_oldest_first_under_one_id() -> None:
    members = [event(number, kind=Kind.UNREAD, minutes=number) for number in (1, 2, 3)]
    wholes = [digest(order, sink="hub", now=at(60)) for order in permutations(members)]
    assert all(whole == wholes[0] for whole in wholes)
    whole = wholes[0]
    assert (whole.kind, whole.note, whole.recorded_at) == (Kind.DIGEST, None, at(60))
    assert (list(whole.events), whole.occurred_at) == (members, at(3))
    assert re.fullmatch(r"msg_[a-z2-7]{26}", whole.id)


def test_a_digest_of_another_sink_or_other_events_has_another_id() -> None:
    members = [event(number, kind=Kind.UNREAD) for number in (1, 2, 3)]
    ids = {
        digest(members, sink="hub", now=at(60)).id,
        digest(members, sink="mail", now=at(60)).id,
        digest(members[:2], sink="hub", now=at(60)).id,
        *(each.id for each in members),
    }
    assert len(ids) == 6
    assert digest(members, sink="hub", now=at(61)).id in ids


# --- any history ------------------------------------------------------------------------------------------

conversations = st.lists(
    st.builds(
        note,
        st.integers(0, 12),
        by=st.sampled_from(Role),
        read=st.sampled_from(Read),
        minutes=st.integers(-3, 3),
    ),
    unique_by=lambda each: each.id,
    max_size=10,
)
histories = st.lists(conversations, max_size=6)


@given(histories)
def test_every_note_but_the_customers_is_told_exactly_once_after_the_first_look(history: list[list[Note]]) -> None:
    known, said = knowing(), []
    for notes in history:
        said += [each.note.id for each in told(notes, known) if each.note]
        known = after(known, notes)
    # A note's author does not change in life; here the first sight counts.
    first_sight: dict[str, Note] = {}
    for notes in history:
        for each in notes:
            first_sight.setdefault(each.id, each)
    expected = [each.id for each in first_sight.values() if each.author.role is not Role.CUSTOMER]
    assert sorted(said) == sorted(expected)


@given(conversations, st.sampled_from(FirstRun))
def test_a_look_that_was_not_recorded_is_found_again(notes: list[Note], policy: FirstRun) -> None:
    assert told(notes, FRESH, policy) == told(notes, FRESH, policy)
    assert told(notes, after(FRESH, notes), policy) == []


@given(conversations)
def test_the_policies_tell_ever_more(notes: list[Note]) -> None:
    nothing, unread, everything = (
        set(kinds(notes, first_run=policy)) for policy in (FirstRun.NOTHING, FirstRun.UNREAD, FirstRun.EVERYTHING)
    )
    assert nothing <= unread <= everything
    assert everything == {each.id for each in notes if each.author.role is not Role.CUSTOMER}


@given(conversations, conversations)
def test_what_is_known_is_never_unlearnt(before: list[Note], now: list[Note]) -> None:
    known = after(FRESH, before)
    assert after(known, now).notes.keys() == known.notes.keys() | {each.id for each in now}
    found = detect(snapshot(*now), known, rule())
    assert found.is_nothing is (not found.new_notes and not found.changed_notes)


@given(conversations, st.integers(-10_000, 10_000))
def test_the_time_of_the_look_decides_nothing_after_the_first(notes: list[Note], minutes: int) -> None:
    shot = snapshot(*notes)
    later = replace(shot, taken_at=shot.taken_at + timedelta(minutes=minutes))
    one, other = (detect(each, knowing(), rule()) for each in (shot, later))
    assert [each.id for each in one.events] == [each.id for each in other.events]


def test_as_long_as_no_note_is_known_a_look_is_a_first_one() -> None:
    empty = Known(is_looked_at=True)
    history = [note(n, read=Read.READ) for n in range(40)]
    assert told([*history, note(40), note(41, minutes=45)], empty) == told(
        [*history, note(40), note(41, minutes=45)], FRESH
    )
    assert [each.kind for each in told([*history, note(41, minutes=45)], empty)] == [Kind.REPLY]


def test_a_note_without_a_time_that_comes_after_an_empty_answer_is_told() -> None:
    untimed = note(1, read=Read.READ, created_at=None)
    assert [each.kind for each in told([untimed], Known(is_looked_at=True))] == [Kind.REPLY]
    assert told([untimed], FRESH) == []
