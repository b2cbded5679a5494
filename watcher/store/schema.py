"""The tables. Instants are milliseconds since the epoch; ids and texts are text; documents are JSON.

``migrations/versions`` builds the same step by step; a test compares the two.
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table, Text, text

#: The migration that makes a database equal to the tables below.
REVISION = "0002"
#: Marks the file as ours (PRAGMA application_id): "wtch".
APPLICATION_ID = 0x77746368

metadata = MetaData()

#: When each watch was first started. It decides what is history, so it is written before the first poll.
watch = Table(
    "watch",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since_ms", BigInteger, nullable=False),
)

ticket = Table(
    "ticket",
    metadata,
    Column("account", Text, primary_key=True),
    Column("ticket", Text, primary_key=True),
    Column("uid", Text, nullable=False, server_default=""),
    Column("watch", Text, nullable=False, server_default=""),
    Column("title", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default="unknown"),
    #: When it was first listed by hand; notes older than that are history on its first look.
    Column("since_ms", BigInteger),
    #: When the first complete look was recorded; null until then.
    Column("looked_at_ms", BigInteger),
    #: Written with changes and at the end of a run, not at every poll.
    Column("last_poll_at_ms", BigInteger),
    Column("error", Text),
)

#: One row for each note ever seen. Membership here is what "known" means: rows are never deleted.
note = Table(
    "note",
    metadata,
    Column("account", Text, primary_key=True),
    Column("ticket", Text, primary_key=True),
    Column("note", Text, primary_key=True),
    Column("created_at_ms", BigInteger),
    Column("role", Text, nullable=False),
    Column("read", Text, nullable=False),
    Column("seen_at_ms", BigInteger, nullable=False),
    #: The note as it was seen; emptied when it is older than ``storage.history``.
    Column("document", Text, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("ticket", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
)

#: The outbox, and after delivery the history.
delivery = Table(
    "delivery",
    metadata,
    Column("event", Text, primary_key=True),
    Column("sink", Text, primary_key=True),
    #: Which of the sink's receivers lacks the event that the others have; "" for the delivery to all of them.
    Column("receiver", Text, primary_key=True, server_default=""),
    #: Deliveries of one lane go out in the order of ``position``: a ticket is a lane, a digest is one of its own.
    Column("lane", Text, nullable=False),
    Column("position", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    #: Attempts that came before their time, because the sink worked again or the ticket had news.
    Column("hastened", Integer, nullable=False, server_default=text("0")),
    #: For ``due`` the next attempt, for ``held`` the latest time to come out.
    Column("due_at_ms", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("delivered_at_ms", BigInteger),
    Column("error", Text),
    #: The digest event that tells this one; its fate is this delivery's fate.
    Column("digest", Text),
    Column("replay", Boolean, nullable=False, server_default=text("0")),
)
Index("delivery_due", delivery.c.sink, delivery.c.state, delivery.c.due_at_ms)
Index("delivery_lane", delivery.c.sink, delivery.c.lane, delivery.c.state, delivery.c.position)

#: Sinks that a receiver has asked to switch off.
sink = Table(
    "sink",
    metadata,
    Column("name", Text, primary_key=True),
    Column("target", Text, nullable=False),
    Column("disabled_at_ms", BigInteger, nullable=False),
    Column("error", Text, nullable=False),
)
