"""Where a PostgreSQL database is: the URLs that libpq knows, and how they are shown."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from allready.errors import UserError

EXAMPLE = "postgresql://USER@HOST:5432/DATABASE"
_SCHEME = re.compile(r"postgres(ql)?(\+\w+)?://", re.IGNORECASE)
_PASSWORD = re.compile(r"[^/?@:]*:(.*)@[^@]*", re.DOTALL)
SECRETS = ("password", "sslpassword")


def _ends_before(text: str) -> bool:
    """Say whether what looks like a password is a port, and the `@` after it stands in an option's value."""
    port, _, rest = text.partition("/")
    return "?" in rest and port.replace(",", "").isdigit()


class Address:
    """A URL, looked through. What it does not say comes from libpq: PGHOST, PGPASSWORD, ~/.pgpass and so on.

    Raises `UserError` for one that makes no sense; its password is not shown.
    """

    def __init__(self, url: str) -> None:
        rest = _SCHEME.sub("", url, count=1)
        self.url = f"postgresql://{rest}"
        if "\0" in rest:
            raise UserError(f"a URL can't have NUL in it: {EXAMPLE}")
        password = _PASSWORD.fullmatch(rest)
        try:
            self.parts: dict[str, Any] = {
                name: value for name, value in conninfo_to_dict(self.url).items() if value is not None
            }
        except psycopg.Error as error:
            reason = "" if password else f" ({' '.join(str(error).split())})"
            raise UserError(f"this is no URL of a PostgreSQL database{reason}: write {EXAMPLE}") from None
        if password and not _ends_before(password.group(1)) and self._password != unquote(password.group(1)):
            raise UserError(
                "in a URL, some characters of a password must be written otherwise: %40 for @, %2F for /, "
                f"%3F for ?, %23 for #, %25 for %; or leave it out, and set PGPASSWORD: {EXAMPLE}"
            )
        self.shown = self._show()

    @property
    def _password(self) -> str | None:
        return self.parts.get("password")

    def _show(self) -> str:
        """Give a URL without a password."""
        parts = {name: str(value) for name, value in self.parts.items() if name not in SECRETS}
        user = f"{quote(parts['user'], safe='')}@" if "user" in parts else ""
        host, port = parts.get("host", ""), parts.get("port", "").strip(",")
        query = ""
        if host.startswith(("/", "@")):  # the folder of a socket
            host, query = "", f"?host={quote(host)}"
            if port:
                query += f"&port={port}"
                port = ""
        if "," in host:
            ports = port.split(",") if port else []
            pairs = zip(host.split(","), ports * (1 if len(ports) > 1 else 99), strict=False)
            host = ",".join(f"{name}:{number}" for name, number in pairs) if ports else host
        elif port:
            host = f"{f'[{host}]' if ':' in host else host}:{port}"
        elif ":" in host:
            host = f"[{host}]"
        return f"postgresql://{user}{host}/{quote(parts.get('dbname', ''), safe='')}{query}"

    @property
    def database(self) -> str | None:
        """The database's name, as far as the URL says it."""
        name = self.parts.get("dbname")
        return None if name is None else str(name)

    @property
    def server(self) -> str:
        """Give where the server is, for people."""
        host = self.parts.get("host") or self.parts.get("hostaddr")
        port = self.parts.get("port")
        if host is None:
            return "the address that libpq takes without a host" if port is None else f"port {port}"
        return str(host) if port is None else f"{host} port {port}"
