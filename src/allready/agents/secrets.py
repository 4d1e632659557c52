"""Secrets: which values of an environment are secret, and how they are blanked in texts, JSON and streams."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, AnyStr
from urllib.parse import quote

MIN_LENGTH = 8
"""Characters; shorter values (`true`, `1`, `dev`) would blank ordinary words."""
MIN_LINE_LENGTH = 20
"""Characters of a single line of a longer secret (a PEM key) that is a secret by itself."""
REPLACEMENT = "[secret]"

_SECRET_WORD = re.compile(
    r"""KEYS? | \w*(API|ACCESS|SECRET|PRIVATE|AUTH|SIGNING|ENCRYPTION)KEYS?
    | AUTH | AUTHORIZATION | CREDS? | JWT | PASS | PWD
    | \w*TOKENS? | \w*SECRETS? | \w*PASSWORDS? | \w*PASSWD | \w*PASSPHRASE | \w*CREDENTIALS?""",
    re.VERBOSE,
)
_ABOUT_A_SECRET = re.compile(
    r"""ALGORITHM | DIR | ENDPOINT | FILE | FOLDER | HOME | HOST | LIMIT | METHOD | MODE | NAME | PATH | PORT
    | PROVIDER | SIZE | SOCK | SOCKET | TIMEOUT | TTL | TYPE | URI | URL | USER | USERNAME""",
    re.VERBOSE,
)
"""`SSH_AUTH_SOCK`, `TOKEN_URL`, `AUTH_TYPE`: with such a last word, a name is only about a secret."""
_NOT_SECRET_NAMES = frozenset({"PWD", "OLDPWD", "ALLREADY_IDEMPOTENCY_KEY"})
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s@]+)@")


def is_secret_name(name: str) -> bool:
    """Say whether a variable is named like a key, token, password or credential."""
    upper = name.upper()
    words = [word.rstrip("0123456789") for word in re.split(r"[^A-Z0-9]+", upper) if word]
    if not words or upper in _NOT_SECRET_NAMES or _ABOUT_A_SECRET.fullmatch(words[-1]):
        return False
    return any(_SECRET_WORD.fullmatch(word) for word in words)


def secret_values(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Give the values in an environment that must not be shown, each once, in the environment's order.

    These are values of `MIN_LENGTH` characters or more of variables named like keys and tokens, unless the
    value is the path of a file that exists, and passwords inside of URLs, whatever the variable's name.
    """
    found: dict[str, None] = {}
    for name, value in environ.items():
        if is_secret_name(name):
            value = value.strip()
            if not (value.startswith("/") and os.path.lexists(value)):
                found[value] = None
        if "://" in value:
            found.update(dict.fromkeys(_URL_PASSWORD.findall(value)))
    return tuple(value for value in found if len(value) >= MIN_LENGTH)


def _forms(value: str) -> Iterator[str]:
    """Give the secret as it may turn up: plain, inside of JSON or a URL, and line by line."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield quote(value, safe="", errors="replace")
    lines = value.splitlines()
    if len(lines) > 1:
        yield "\r\n".join(lines)
        for line in lines:
            if len(line) >= MIN_LINE_LENGTH and " " not in line and not line.startswith("-----"):
                yield line


class Redactor:
    """Replaces every occurrence of the given values, in their plain and escaped forms, by `[secret]`.

    Safe to share between tasks and threads; streams have state, so each gets a `stream()` of its own.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = dict.fromkeys(form for value in values if value for form in _forms(value))
        self._texts = tuple(forms)
        self._bytes = tuple(dict.fromkeys(map(_encode, forms)))

    def text(self, text: str) -> str:
        """Blank the secrets in a text."""
        return _blank(text, _spans(text, self._texts))

    def json(self, value: Any) -> Any:
        """Blank the secrets in all strings of a JSON value, keys included; other values stay as they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.json(key): self.json(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.json(item) for item in value]
        return value

    def stream(self) -> RedactedStream:
        """Give the form for bytes that come in pieces."""
        return RedactedStream(self._bytes)


class RedactedStream:
    """Blanks secrets in a stream of bytes, also those that are split across pieces.

    Holds back only an end that could be the beginning of a secret, so never more than the longest secret.
    """

    def __init__(self, secrets: tuple[bytes, ...]) -> None:
        self._secrets = secrets
        self._held = b""
        self._covered = 0
        """Bytes at the beginning of `_held` that belong to a secret whose replacement is already out."""

    def feed(self, data: bytes) -> bytes:
        """Take the next piece; give what can be shown by now."""
        if not self._secrets:
            return data
        data = self._held + data
        hold = min((_open_end(data, secret) for secret in self._secrets), default=len(data))
        return self._emit(data, hold)

    def flush(self) -> bytes:
        """Give what was held back: the stream has ended."""
        return self._emit(self._held, len(self._held))

    def _emit(self, data: bytes, hold: int) -> bytes:
        parts = []
        done = self._covered
        for start, stop in _spans(data, self._secrets):
            if start >= hold:
                break  # may grow with the next piece: stays held
            if start >= self._covered:
                parts += [data[done:start], REPLACEMENT.encode()]
            done = max(done, stop)
        if done < hold:
            parts.append(data[done:hold])
            done = hold
        self._held = data[hold:]
        self._covered = done - hold
        return b"".join(parts)


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # as environments hold bytes that are not UTF-8
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _spans(text: AnyStr, secrets: tuple[AnyStr, ...]) -> list[tuple[int, int]]:
    """Find all places of all secrets, overlapping ones joined, in order."""
    found: list[tuple[int, int]] = []
    for secret in secrets:
        at = text.find(secret)
        while at >= 0:
            found.append((at, at + len(secret)))
            at = text.find(secret, at + 1)
    if len(found) < 2:
        return found
    found.sort()
    joined = [found[0]]
    for start, stop in found[1:]:
        if start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def _blank(text: str, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return text
    parts = []
    done = 0
    for start, stop in spans:
        parts += [text[done:start], REPLACEMENT]
        done = stop
    return "".join([*parts, text[done:]])


def _open_end(data: bytes, secret: bytes) -> int:
    """Find where an end of `data` begins that could be the beginning of the secret; else `len(data)`."""
    at = data.find(secret[:1], max(0, len(data) - len(secret) + 1))
    while at >= 0 and not secret.startswith(data[at:]):
        at = data.find(secret[:1], at + 1)
    return at if at >= 0 else len(data)
