"""Alembic's entry: migrates on the connection, and in the transaction, that `store.migrate` hands in."""

from alembic import context

from allready.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the transaction is the caller's: all migrations or none
)
context.run_migrations()
