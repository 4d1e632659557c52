"""What errors of a PostgreSQL server mean, and what to do about them.

Errors in a session have a code (https://www.postgresql.org/docs/current/errcodes-appendix.html). When a
connection can't be made or is lost there is only a text, in the server's language. Of those that are known in
English is said what to do, but all of them mean that the server can't be reached for now.
"""

from __future__ import annotations

import psycopg
import sqlalchemy as sa

from allready.errors import StoreBusy, StoreError, StoreUnavailable
from allready.store.postgresql_url import Address

SCHEMA = "allready"
"""Where the tables of a store are."""
BUSY = frozenset({"40001", "40P01", "55P03"})
"""Serialization, deadlock, lock timeout: others were in the way, and nothing was written."""
AWAY = frozenset(
    {
        *("57P01", "57P02", "57P03", "57P05"),  # shut down, crashed, not up yet, idle for too long
        *("25P03", "25P04"),  # a transaction that waited or lasted too long (we were suspended)
        *("57014", "53200", "53300", "40003"),  # canceled, no memory, too many connections, outcome not known
    }
)
CONNECTION = "08"
"""Class of codes: connection exceptions."""
OUTSIDE = frozenset({"42501", "42P01", "3F000", "3D000"})
"""Rights, tables or the schema are missing: programming errors only to the driver."""
_MEANINGS = (
    ("53100", "could not extend file", "the server's disk is full; free some space, then resume the run"),
    (
        "25006",
        "read-only transaction",
        "the server takes no writes: is it a standby, or set to read only? Name another one with --store",
    ),
    ("42P01", "3F000", "tables of the store are missing: was its schema removed, or renamed?"),
    ("55P03", "lock timeout", "another process keeps the run locked; see what it does, then try again"),
    ("40P01", "40001", "another process was in the way; try again"),
    (
        "53300",
        "too many clients",
        "the server has no more connections; raise its max_connections, or run less",
    ),
    ("remaining connection slots", "too many connections for", "the server has no more connections for us"),
    ("57P03", "starting up", "the server is starting; try again in a moment"),
    ("57P01", "shutting down", "the server has been stopped; try again when it runs"),
    ("57P02", "in recovery mode", "the server has crashed and is recovering; try again in a moment"),
    ("25P03", "57014", "the server ended what took too long; try again"),
)
"""Two signs each: codes, or parts of an English text."""


def breaks_rule(error: BaseException) -> bool:
    """Say whether what was asked for can't be: a row twice, a value out of range, wrong SQL."""
    if isinstance(error, psycopg.IntegrityError | psycopg.DataError | psycopg.InterfaceError):
        return True
    wrong = isinstance(error, psycopg.ProgrammingError | psycopg.NotSupportedError)
    return wrong and getattr(error, "sqlstate", None) not in OUTSIDE


def kind_of(error: BaseException) -> type[StoreError]:
    """Give what an error means."""
    code = getattr(error, "sqlstate", None)
    if code is None:
        if isinstance(error, sa.exc.TimeoutError):  # the pool's
            return StoreBusy
        return StoreUnavailable if isinstance(error, psycopg.OperationalError) else StoreError
    if code in BUSY:
        return StoreBusy
    return StoreUnavailable if code in AWAY or code.startswith(CONNECTION) else StoreError


def grants(user: str) -> str:
    """Give what the owner of a store's schema has to say, so that a user may use it."""
    return (
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {user}, and GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES "
        f"(and USAGE ON ALL SEQUENCES) IN SCHEMA {SCHEMA} TO {user}"
    )


def explain(error: BaseException, address: Address, user: str = "the_user", *, there: bool = False) -> str:
    """Say what happened to a user, and what to do; `there` says that there was a store already."""
    text = " ".join(str(error).split())
    code = getattr(error, "sqlstate", None)
    meaning = _lacking(text, user, there=there) if code == "42501" else _meaning(text, code, address)
    if meaning is None and isinstance(error, psycopg.Error) and code is None:
        lost = isinstance(error, psycopg.OperationalError) and error.pgconn is None
        at = f"can't connect to {address.server}; check the URL and its options"
        meaning = "the connection to the server is lost" if lost else at
    return f"{meaning} ({text})" if meaning else f"the store does not work: {text}"


def _lacking(text: str, user: str, *, there: bool) -> str:
    """Say which rights a user lacks."""
    if "must be owner" in text:
        return f"the user {user} may not change the tables; whoever they belong to can: allready db upgrade"
    if there:
        return f"the user {user} lacks rights; whoever the tables belong to says: {grants(user)}"
    return (
        f"the user {user} lacks rights; the store needs a schema of its own, which an administrator can "
        f"make: CREATE SCHEMA {SCHEMA} AUTHORIZATION {user}"
    )


def _meaning(text: str, code: str | None, address: Address) -> str | None:
    for first, second, meaning in _MEANINGS:
        if code in (first, second) or first in text or second in text:
            return meaning
    if code is not None:
        return None
    if "could not translate host name" in text or "failed to resolve host" in text:
        return "the server's host is not known; check its name in the URL"
    if "Connection refused" in text or "No such file or directory" in text or "could not connect" in text:
        return (
            f"no PostgreSQL server answers at {address.server}: start it, or check host and port in the URL"
        )
    if "no connection got free" in text:
        return "the server has no more connections for us; raise its max_connections, or run less"
    if "timeout expired" in text or "timed out" in text:
        return f"the server at {address.server} does not answer in time; check the address, and the network"
    if "password" in text or "authentication failed" in text:
        return "the server refuses this user and password; check them, or set PGPASSWORD, or use ~/.pgpass"
    if "does not exist" in text and "database" in text:
        name = address.database
        return f"the server has no such database; make it first: createdb {name}" if name else None
    if "does not exist" in text or "no pg_hba.conf entry" in text:
        return "the server does not let this user in; check the user's name, or ask its administrator"
    return None
