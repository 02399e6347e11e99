"""The first schema: specialists, and the revision of all of them together."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    registry = op.create_table(
        "registry",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False, primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("last_generation", sa.BigInteger(), nullable=False),
    )
    op.bulk_insert(registry, [{"id": 1, "revision": 0, "last_generation": 0}])
    op.create_table(
        "specialists",
        sa.Column("name", sa.String(64), nullable=False, primary_key=True),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("intent", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("examples", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("routable", sa.Boolean(), nullable=False),
        sa.Column("allow_base_mismatch", sa.Boolean(), nullable=False),
        sa.Column("unloaded", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("specialists")
    op.drop_table("registry")
