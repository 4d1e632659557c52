"""The SQL is not SQLite's own: all of it can be said in PostgreSQL's words, too."""

import pytest
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.schema import CreateIndex, CreateTable

from allready.store import schema
from allready.store.statements import Statement, Statements


def test_the_statements_of_the_hot_path() -> None:
    statements = Statements(psycopg.dialect())  # type: ignore[no-untyped-call]
    advance = statements.advance(("status", "counts"), counted=True)
    found = [value for value in vars(statements).values() if isinstance(value, Statement)]
    assert len(found) == 9
    for statement in (*found, advance):
        assert "?" not in statement._sql
        assert statement._order is None
        assert "%(" in statement._sql
    assert "RETURNING runs.last_seq, runs.last_input" in advance._sql


@pytest.mark.parametrize("table", schema.metadata.sorted_tables, ids=lambda table: table.name)
def test_the_tables(table: Table) -> None:
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
    text = str(CreateTable(table).compile(dialect=dialect))
    assert "ROWID" not in text
    assert 'COLLATE "C"' in text
    for index in table.indexes:
        assert str(CreateIndex(index).compile(dialect=dialect))
