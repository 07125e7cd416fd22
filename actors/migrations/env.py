"""Alembic's entry, as the ledger's: runs the revisions on the connection that ``ledger.migrate`` hands over."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["table"],
    target_metadata=context.config.attributes.get("metadata"),
    render_as_batch=False,
    transactional_ddl=False,  # the caller's transaction, which also holds the lock, spans all revisions
    render_item=context.config.attributes.get("render_item", lambda *_: False),
)
context.run_migrations()
