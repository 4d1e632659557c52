"""Under CI a test must not skip: what a user's machine may lack is there, and a skip would hide a hole."""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tests.postgres import PostgresServer, missing, postgres_server

for name in list(os.environ):  # no test asks a provider, whoever runs it
    if name.endswith("_API_KEY") or name in {"OPENAI_BASE_URL", "OLLAMA_BASE_URL", "ALLREADY_MODEL"}:
        del os.environ[name]

ALLOWED_SKIPS = (
    "this file system takes only names in UTF-8",
    "this system makes no namespaces for processes",
    "this user may not mount a disk of its own",
)
"""Beginnings of reasons that are about the machine, and that no installation mends."""


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not os.environ.get("CI") or not report.skipped or hasattr(report, "wasxfail"):
        return
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = text.removeprefix("Skipped: ")
    if not reason.startswith(ALLOWED_SKIPS):
        report.outcome = "failed"
        report.longrepr = f"skipped, which must not happen under CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.fixture(autouse=True)
def _own_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a provider taught one test must not hold up another."""
    from allready.pool import provider

    monkeypatch.setattr(provider, "of_this_process", provider.ProviderGates())


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    absent = missing()
    if absent is not None:
        pytest.skip(absent)
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres(_postgres: PostgresServer) -> PostgresServer:
    """A real server that runs; one for all tests of a worker. A test may stop and kill it."""
    _postgres.start()
    return _postgres


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty database of that server."""
    url = postgres.new_database()
    yield url
    postgres.start()
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a place where no store is yet: in a file, and on a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    return str(request.getfixturevalue("postgres_url"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many inputs, points and the like tests have tried: what they recorded as `tried: WHAT`."""
    tried: Counter[str] = Counter()
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for report in reports:
        if getattr(report, "when", None) != "teardown":  # the last of a test: all is recorded
            continue
        for name, count in report.user_properties:
            if name.startswith("tried: ") and isinstance(count, int):
                tried[name.removeprefix("tried: ")] += count
    if tried:
        terminalreporter.section("tried")
        for what, total in sorted(tried.items()):
            terminalreporter.line(f"{total:>12,} {what}")
        terminalreporter.line(f"{tried.total():>12,} in all")
