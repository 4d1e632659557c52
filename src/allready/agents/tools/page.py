"""One request for a page, at a place that a rule names exactly and that may be local.

Redirects are told, not followed: whoever asks checks each address before it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from allready.agents.threads import in_thread
from allready.agents.tools.workspace import Refused
from allready.errors import PermanentError, text_of

if TYPE_CHECKING:
    import httpx2

MAX_DOWNLOAD = 10 * 1024 * 1024
"""Bytes of a page as it comes."""
CONNECT_TIME = 5.0
"""Seconds until a connection must be there."""
HTML = frozenset({"", "text/html", "application/xhtml+xml"})
"""Types that are shown as Markdown; what has none is taken for it."""
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml|yaml|toml|javascript|x-(yaml|ndjson|sh))")
_ACCEPT = "text/markdown, text/html;q=0.9, */*;q=0.8"


class Page(NamedTuple):
    """What was there."""

    title: str
    text: str


class Redirect(NamedTuple):
    """Where it is instead."""

    url: str


class Library(NamedTuple):
    """What pydantic-ai has for this: nothing of it is meant for others, but all of it is about safety."""

    resolve: Callable[..., Any]
    """Gives the address of a host, which is used then, whatever its name stands for later; refuses those of
    clouds' metadata services."""
    pinned: Callable[..., str]
    """Gives the URL with that address."""
    convert: Callable[[str], tuple[str, str]]
    """Makes Markdown of HTML, within bounds whatever the HTML."""


def library() -> Library:
    """Raise `PermanentError` if this version of pydantic-ai has it elsewhere."""
    try:
        from pydantic_ai._ssrf import build_url_with_ip, validate_and_resolve_url
        from pydantic_ai.common_tools.web_fetch import _convert_html
    except ImportError as error:
        raise PermanentError(
            f"fetch_url can't be had for one address with this version of pydantic-ai ({text_of(error)}): "
            "use another version, or fetch_url(domain:HOST)"
        ) from error
    return Library(validate_and_resolve_url, build_url_with_ip, _convert_html)


async def get_page(url: str) -> Page | Redirect:
    """Ask for `url` once, and for nothing else. Raises `Refused` if that gives no text."""
    import httpx2

    try:
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(None, connect=CONNECT_TIME)) as client:
            response = await client.send(await _request(client, url), stream=True, follow_redirects=False)
            try:
                return await _read(response, url)
            finally:
                await response.aclose()
    except (ValueError, httpx2.InvalidURL, httpx2.HTTPError) as error:
        raise Refused(f"{url} can't be fetched: {text_of(error) or type(error).__name__}") from error


async def _request(client: httpx2.AsyncClient, url: str) -> httpx2.Request:
    known, parts = library(), urlsplit(url)
    place = await known.resolve(url, True)
    # without compression the bytes that come are the bytes that there are
    headers = {"Host": parts.netloc, "Accept": _ACCEPT, "Accept-Encoding": "identity"}
    extensions = {"sni_hostname": parts.hostname} if parts.scheme == "https" else {}
    return client.build_request("GET", known.pinned(place), headers=headers, extensions=extensions)


async def _read(response: httpx2.Response, url: str) -> Page | Redirect:
    if response.has_redirect_location:
        return Redirect(urljoin(url, response.headers["location"]))
    if not response.is_success:
        raise Refused(f"{url} can't be fetched: {response.status_code} {response.reason_phrase}")
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and not _TEXT.fullmatch(kind) and kind not in HTML:
        raise Refused(f"{url} is no text: it is {kind}")
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise Refused(f"{url} can't be fetched: it comes as {coding}, which was not asked for")
    data = bytearray()
    async for piece in response.aiter_raw():
        data += piece
        if len(data) > MAX_DOWNLOAD:
            raise Refused(f"{url} is larger than {MAX_DOWNLOAD // 1024**2} MiB")
    charset = response.charset_encoding or "utf-8"
    return await in_thread(lambda: _shown(bytes(data), charset, kind, url), "allready page")


def _shown(data: bytes, charset: str, kind: str, url: str) -> Page:
    from pydantic_ai import ModelRetry

    try:
        text = data.decode(charset, "replace")
    except (LookupError, UnicodeError):  # not all that Python knows by a name is a way to write texts
        text = data.decode("utf-8", "replace")
    if kind not in HTML:
        return Page("", text)
    try:
        title, text = library().convert(text)
    except (ModelRetry, RecursionError) as error:
        raise Refused(f"{url} can't be shown: {text_of(error)}") from error
    return Page(title, re.sub(r"\n{3,}", "\n\n", text).strip())
