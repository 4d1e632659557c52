"""The tool `fetch_url`: web pages as Markdown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from allready.agents.tools.addresses import AddressRule
from allready.agents.tools.workspace import Refused

FETCH_TIME = 30
"""Seconds for one page."""
MAX_DOWNLOAD = 10 * 1024 * 1024
"""Bytes of a page as it comes."""
MAX_CONTENT = 40_000
"""Characters of a page as Markdown; about 10,000 tokens."""


def fetch_tool(public: bool, rules: Sequence[AddressRule]) -> Callable[..., Awaitable[str]]:
    """Give the tool that fetches what may be fetched.

    Private, loopback and metadata addresses are refused, also behind names and redirects, except where a rule
    names the exact place; from there redirects are followed on the same host only.
    """
    from pydantic_ai.common_tools.web_fetch import web_fetch_tool

    def fetcher(rule: AddressRule | None) -> Any:
        return web_fetch_tool(
            max_content_length=MAX_CONTENT,
            timeout=FETCH_TIME,
            max_download_bytes=MAX_DOWNLOAD,
            allow_local_urls=rule is not None and rule.local,
            allowed_domains=None if rule is None else [rule.host],
        ).function

    order = sorted(rules, key=lambda rule: not rule.local)
    allowed = "any public address" if public else ", ".join(map(str, order))

    async def fetch_url(url: str) -> str:
        rule = next((rule for rule in order if rule.allows(url)), None)
        if rule is None and not public:
            raise Refused(f"this address is not allowed; allowed are: {allowed}")
        found = await fetcher(rule)(url)
        if not isinstance(found, dict):
            raise Refused(f"{url} is no text: it is {found.media_type}")
        head = f"{found['title']}\n\n" if found["title"] else ""
        return head + str(found["content"])

    fetch_url.__doc__ = f"""Fetch a web page as Markdown, or a text file as it is. Allowed: {allowed}.

        Args:
            url: The address, with https:// or http://.
        """
    return fetch_url
