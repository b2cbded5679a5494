"""A receiver of a sink may lack an event that the others have: its delivery is a row of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_COLUMNS = (
    "event, sink, lane, position, state, attempts, hastened, due_at_ms, created_at_ms, delivered_at_ms, error, digest, "
    "replay"
)


def upgrade() -> None:
    """Make the table anew, because SQLite cannot change a primary key, and keep the rows."""
    op.rename_table("delivery", "delivery_before")
    for name in ("delivery_due", "delivery_lane"):
        op.drop_index(name)
    op.create_table(
        "delivery",
        sa.Column("event", sa.Text, primary_key=True),
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("receiver", sa.Text, primary_key=True, server_default=""),
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
    op.execute(f"INSERT INTO delivery ({_COLUMNS}) SELECT {_COLUMNS} FROM delivery_before")  # noqa: S608 - ours
    op.drop_table("delivery_before")
    op.create_index("delivery_due", "delivery", ["sink", "state", "due_at_ms"])
    op.create_index("delivery_lane", "delivery", ["sink", "lane", "state", "position"])
