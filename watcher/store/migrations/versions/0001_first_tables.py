"""The first tables: watches, tickets, notes, events, deliveries, switched-off sinks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "watch",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ticket",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("ticket", sa.Text, primary_key=True),
        sa.Column("uid", sa.Text, nullable=False, server_default=""),
        sa.Column("watch", sa.Text, nullable=False, server_default=""),
        sa.Column("title", sa.Text, nullable=False, server_default=""),
        sa.Column("status", sa.Text, nullable=False, server_default="unknown"),
        sa.Column("since_ms", sa.BigInteger),
        sa.Column("looked_at_ms", sa.BigInteger),
        sa.Column("last_poll_at_ms", sa.BigInteger),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "note",
        sa.Column("account", sa.Text, primary_key=True),
        sa.Column("ticket", sa.Text, primary_key=True),
        sa.Column("note", sa.Text, primary_key=True),
        sa.Column("created_at_ms", sa.BigInteger),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("read", sa.Text, nullable=False),
        sa.Column("seen_at_ms", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("ticket", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("position", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("hastened", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("due_at_ms", sa.BigInteger, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("delivered_at_ms", sa.BigInteger),
        sa.Column("error", sa.Text),
        sa.Column("digest", sa.Text),
        sa.Column("replay", sa.Boolean, nullable=False, server_default=sa.text("0")),
    )
    op.create_index("delivery_due", "delivery", ["sink", "state", "due_at_ms"])
    op.create_index("delivery_lane", "delivery", ["sink", "lane", "state", "position"])
    op.create_table(
        "sink",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("disabled_at_ms", sa.BigInteger, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
    )
