"""The tool that fetches web pages: what it gives, and where it does not go."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tests.agents.attempts import make_attempt
from tests.agents.tools.using import Use

from allready.agents.definitions import AgentDefinition
from allready.agents.tools import fetch_tool, page, toolsets_for
from allready.errors import PermanentError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    return place


def using(tmp_path: Path, *tools: str) -> Use:
    return Use(make_attempt(tmp_path, base_dir=tmp_path / "project"), *tools)


class Pages(BaseHTTPRequestHandler):
    """A small site: pages, something large, something that is no text, and redirects."""

    answers: ClassVar[dict[str, tuple[str, bytes]]] = {
        "/docs/page": (
            "text/html",
            b"<title>T</title><h1>Head</h1><p>some <b>text</b></p><script>x</script>",
        ),
        "/docs/data.json": ("application/json", b'{"a": 1}'),
        "/docs/long": ("text/plain", b"x" * 200_000),
        "/docs/picture": ("image/png", b"\x89PNG"),
        "/docs/latin": ("text/plain; charset=iso-8859-1", b"caf\xe9"),
        "/docs/odd": ("text/plain; charset=rot_13", "café".encode()),
        "/docs/untyped": ("", b"<p>Hello</p>"),
        "/docs/deep": ("text/html", b"<div>" * 5_000),
        "/docs/packed": ("text/plain", b"\x1f\x8b\x08"),
        "/docs/huge": ("text/plain", b"x" * 2 * 1024**2),
        "/secret": ("text/plain", b"secret"),
    }
    moved: ClassVar[dict[str, str]] = {
        "/docs/away": "http://localhost:1/other",
        "/docs/out": "/secret",
        "/docs/up": "../secret",
        "/docs/old": "page",
        "/docs/older": "/docs/old",
        "/docs/round": "/docs/round",
        "/docs/nowhere": "",
    }
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        kind, data = self.answers.get(path, ("text/plain", b"not found"))
        if self.path.startswith("/docs/to?"):
            self.redirect(self.path.partition("?")[2])
        elif path in self.moved:
            self.redirect(self.moved[path])
        else:
            self.send_response(200 if path in self.answers else 404)
            if kind:
                self.send_header("Content-Type", kind)
            if path == "/docs/packed":
                self.send_header("Content-Encoding", "gzip")
            self.end(data)

    def redirect(self, place: str) -> None:
        self.send_response(302)
        if place:
            self.send_header("Location", place)
        self.end(b"")

    def end(self, data: bytes) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def site() -> Iterator[str]:
    with serving() as address:
        yield address


async def test_pages_that_are_allowed_by_name_are_fetched(folder: Path, tmp_path: Path, site: str) -> None:
    use = using(tmp_path, f"fetch_url({site}/docs)")
    page, data, long, picture, gone = await use.calls(
        *(
            ("fetch_url", {"url": f"{site}/docs/{name}"})
            for name in ("page", "data.json", "long", "picture", "gone")
        )
    )
    assert page.text.startswith("T\n\n")
    assert "some **text**" in page.text
    assert '"a": 1' in data.text
    assert "[Content truncated]" in long.text
    assert len(long.text) < 41_000
    assert picture == (f"{site}/docs/picture is no text: it is image/png", True)
    assert gone.refused
    assert "404" in gone.text
    assert f"{site}/docs" in use.seen["fetch_url"].description


@pytest.mark.parametrize(
    "path", ["/secret", "/docs/../secret", "/docs/%2e%2e/secret", "/docsx", "/docs/..%2fsecret", ""]
)
async def test_other_pages_of_the_place_are_refused(
    folder: Path, tmp_path: Path, site: str, path: str
) -> None:
    answer = await using(tmp_path, f"fetch_url({site}/docs)")("fetch_url", url=site + path)
    assert answer == (f"this address is not allowed; allowed are: {site}/docs", True)


@pytest.mark.parametrize("name", ["old", "older"])
async def test_redirects_within_the_place_are_followed(
    folder: Path, tmp_path: Path, site: str, name: str
) -> None:
    answer = await using(tmp_path, f"fetch_url({site}/docs)")("fetch_url", url=f"{site}/docs/{name}")
    assert answer.text.startswith("T\n\n")


@pytest.mark.parametrize(
    ("name", "place"), [("away", "http://localhost:1/other"), ("out", "SITE/secret"), ("up", "SITE/secret")]
)
@pytest.mark.parametrize("more", [(), ("fetch_url(domain:example.com)",)])
async def test_a_redirect_out_of_the_place_is_refused(
    folder: Path, tmp_path: Path, site: str, name: str, place: str, more: tuple[str, ...]
) -> None:
    use = using(tmp_path, f"fetch_url({site}/docs)", *more)
    answer = await use("fetch_url", url=f"{site}/docs/{name}")
    place = place.replace("SITE", site)
    assert answer.refused
    assert answer.text.startswith(f"{site}/docs/{name} leads to {place}: this is not allowed; allowed are: ")


async def test_a_redirect_opens_no_other_port_of_the_host(folder: Path, tmp_path: Path, site: str) -> None:
    with serving() as other:
        start = f"{site}/docs/to?{other}/docs/page"
        answer = await using(tmp_path, f"fetch_url({site}/docs)")("fetch_url", url=start)
        assert answer.refused
        assert f"leads to {other}/docs/page: this is not allowed" in answer.text
        both = using(tmp_path / "both", f"fetch_url({site}/docs)", f"fetch_url({other}/docs)")
        both.attempt.base_dir.mkdir(parents=True)
        assert (await both("fetch_url", url=start)).text.startswith("T\n\n"), "it might be fetched anyway"


async def test_where_all_public_addresses_are_allowed_a_redirect_leads_to_no_private_one(
    folder: Path, tmp_path: Path, site: str
) -> None:
    answer = await using(tmp_path, "fetch_url", f"fetch_url({site}/docs)")(
        "fetch_url", url=f"{site}/docs/out"
    )
    assert answer.refused
    assert "private/internal IP address (127.0.0.1) is blocked" in answer.text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("round", "leads on and on: more than 10 redirects"),
        ("nowhere", "can't be fetched: 302 Found"),
        ("packed", "can't be fetched: it comes as gzip, which was not asked for"),
        ("huge", "is larger than 1 MiB"),
        ("deep", "can't be shown: "),
    ],
)
async def test_pages_that_are_no_good(
    folder: Path, tmp_path: Path, site: str, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MAX_DOWNLOAD", 1024**2)
    answer = await using(tmp_path, f"fetch_url({site}/docs)")("fetch_url", url=f"{site}/docs/{name}")
    assert answer.refused
    assert answer.text.startswith(f"{site}/docs/{name} {told}")


async def test_texts_in_other_ways_of_writing(folder: Path, tmp_path: Path, site: str) -> None:
    answers = await using(tmp_path, f"fetch_url({site}/docs)").calls(
        *(("fetch_url", {"url": f"{site}/docs/{name}"}) for name in ("latin", "odd", "untyped"))
    )
    assert [answer.text for answer in answers] == ["café", "café", "Hello"]


async def test_a_place_where_nobody_answers(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        unheard.listen()
        address = f"http://127.0.0.1:{unheard.getsockname()[1]}/"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fetch_tool, "FETCH_TIME", 0.2)
            slow = await using(tmp_path, f"fetch_url({address})")("fetch_url", url=address)
    assert slow == (f"{address} did not come within 0.2 seconds", True)
    gone = await Use(make_attempt(tmp_path / "2"), f"fetch_url({address})")("fetch_url", url=address)
    assert gone.refused
    assert gone.text.startswith(f"{address} can't be fetched: ")


async def test_the_metadata_of_a_cloud_is_not_read_even_where_a_rule_names_it(
    folder: Path, tmp_path: Path
) -> None:
    address = "http://169.254.169.254/latest"
    answer = await using(tmp_path, f"fetch_url({address})")("fetch_url", url=address)
    assert answer.refused
    assert "metadata" in answer.text


def test_a_pydantic_ai_that_keeps_its_checks_elsewhere_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydantic_ai.common_tools import web_fetch

    monkeypatch.delattr(web_fetch, "_convert_html")
    attempt = make_attempt(tmp_path)
    assert toolsets_for(AgentDefinition("x", tools=("fetch_url",)), attempt)
    with pytest.raises(PermanentError, match="can't be had for one address with this version of pydantic-ai"):
        toolsets_for(AgentDefinition("x", tools=("fetch_url(http://127.0.0.1:1/)",)), attempt)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "10.0.0.1", "2130706433"]
)
async def test_private_addresses_are_refused(folder: Path, tmp_path: Path, site: str, host: str) -> None:
    port = site.rpartition(":")[2]
    answer = await using(tmp_path, "WebFetch", "WebFetch(domain:localhost)")(
        "fetch_url", url=f"http://{host}:{port}/secret"
    )
    assert answer.refused
    assert "secret" not in answer.text.replace("/secret", "")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "nonsense", "http://", "http://[::1", ""])
async def test_what_is_no_web_address_is_refused(folder: Path, tmp_path: Path, url: str) -> None:
    assert (await using(tmp_path, "fetch_url")("fetch_url", url=url)).refused


async def test_domains_are_all_that_is_allowed(folder: Path, tmp_path: Path) -> None:
    answer = await using(tmp_path, "WebFetch(domain:example.com)")("fetch_url", url="https://example.org/x")
    assert answer == ("this address is not allowed; allowed are: domain:example.com", True)
