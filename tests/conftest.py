"""Under CI a test must not skip: what a user's machine may lack is there, and a skip would hide a hole."""

import os
from collections.abc import Generator

import pytest

for name in list(os.environ):  # no test asks a provider, whoever runs it
    if name.endswith("_API_KEY") or name in {"OPENAI_BASE_URL", "OLLAMA_BASE_URL", "ALLREADY_MODEL"}:
        del os.environ[name]

ALLOWED_SKIPS = ("this file system takes only names in UTF-8",)
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
