"""Which addresses an agent may fetch: `domain:example.com`, or the beginning of an address."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_DOMAIN = "domain:"
_PORTS = {"http": 80, "https": 443}


class AddressRule(NamedTuple):
    """The addresses that may be fetched. A rule for one place also allows what is private or local there."""

    host: str
    scheme: str | None = None
    """None: any address of the host that is public."""
    port: int | None = None
    path: str = "/"

    @property
    def local(self) -> bool:
        """Whether the rule names an exact place, which need not be public."""
        return self.scheme is not None

    def allows(self, url: str) -> bool:
        """Say whether the address is at the place that the rule names."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            return False
        if (parts.hostname or "") != self.host or parts.username is not None:
            return False
        if self.scheme is None:
            return True
        if parts.scheme.lower() != self.scheme or (port or _PORTS.get(self.scheme)) != self.port:
            return False
        path = parts.path or "/"
        steps = unquote(unquote(path)).replace("\\", "/").split("/")
        if ".." in steps:  # servers and clients differ in what they make of these
            return False
        return self.path == "/" or path == self.path or path.startswith(self.path.rstrip("/") + "/")

    def __str__(self) -> str:
        """As it is written in an agent's file."""
        if self.scheme is None:
            return f"{_DOMAIN}{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def address_rule(text: str) -> AddressRule:
    """Read `domain:HOST` or the beginning of an address. Raises `ValueError` that says what is wrong."""
    text = text.strip()
    if text.startswith(_DOMAIN):
        host = text.removeprefix(_DOMAIN).strip().lower()
        if not host or "/" in host or "*" in host:
            raise ValueError("it names no host: write domain:example.com")
        return AddressRule(host)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"it is not an address: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it is not an address: write https://example.com/docs or domain:example.com")
    return AddressRule(parts.hostname, parts.scheme, port or _PORTS[parts.scheme], parts.path or "/")
