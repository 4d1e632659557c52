"""The tool `fetch_url`: web pages as Markdown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from allready.agents.tools.addresses import AddressRule
from allready.agents.tools.page import MAX_DOWNLOAD, Redirect, get_page, library
from allready.agents.tools.workspace import Refused

FETCH_TIME = 30
"""Seconds for one page."""
MAX_CONTENT = 40_000
"""Characters of a page as Markdown; about 10,000 tokens."""
MAX_REDIRECTS = 10
"""For one page; more go round in circles."""


def fetch_tool(public: bool, rules: Sequence[AddressRule]) -> Callable[..., Awaitable[str]]:
    """Give the tool that fetches what may be fetched.

    Private, loopback and metadata addresses are refused, also behind names and redirects, except where a rule
    names the exact place. From there redirects are followed only to what might be fetched without them.
    Raises `PermanentError` if that can't be made sure of.
    """
    order = sorted(rules, key=lambda rule: not rule.local)
    allowed = "any public address" if public else ", ".join(map(str, order))
    if any(rule.local for rule in rules):
        library()

    async def fetch(url: str) -> str:
        asked = url = url.strip()
        for _ in range(MAX_REDIRECTS + 1):
            rule = next((rule for rule in order if rule.allows(url)), None)
            if rule is None and not public:
                what = "this address is" if url == asked else f"{asked} leads to {url}: this is"
                raise Refused(f"{what} not allowed; allowed are: {allowed}")
            if rule is None or not rule.local:
                return await _fetch_public(url, rule)
            found = await get_page(url)
            if not isinstance(found, Redirect):
                return _shown(found.title, found.text)
            url = found.url
        raise Refused(f"{asked} leads on and on: more than {MAX_REDIRECTS} redirects")

    async def fetch_url(url: str) -> str:
        try:
            async with asyncio.timeout(FETCH_TIME):
                return await fetch(url)
        except TimeoutError:
            raise Refused(f"{url} did not come within {FETCH_TIME} seconds") from None

    fetch_url.__doc__ = f"""Fetch a web page as Markdown, or a text file as it is. Allowed: {allowed}.

        Args:
            url: The address, with https:// or http://.
        """
    return fetch_url


async def _fetch_public(url: str, rule: AddressRule | None) -> str:
    """Fetch from a public address; each redirect has to lead to one, and for a rule to its host."""
    from pydantic_ai.common_tools.web_fetch import web_fetch_tool

    fetch: Any = web_fetch_tool(
        max_content_length=MAX_CONTENT,
        timeout=FETCH_TIME,
        max_download_bytes=MAX_DOWNLOAD,
        allowed_domains=None if rule is None else [rule.host],
    ).function
    found = await fetch(url)
    if not isinstance(found, dict):
        raise Refused(f"{url} is no text: it is {found.media_type}")
    return _shown(found["title"], found["content"])


def _shown(title: str, text: str) -> str:
    if len(text) > MAX_CONTENT:
        text = text[:MAX_CONTENT] + "\n\n[Content truncated]"
    return f"{title}\n\n{text}" if title else text
