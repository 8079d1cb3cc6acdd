"""What Alembic runs for each migration: on the connection that `schedule.store` hands over."""

from __future__ import annotations

from alembic import context

from schedule.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite changes a column by making the table anew.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
