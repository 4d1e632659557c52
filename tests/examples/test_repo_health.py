"""The plan `repo_health.yaml` on repositories of all kinds."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.examples.places import (
    BIN,
    EXAMPLES,
    commit,
    copy_of_this_repository,
    git,
    program,
    repository,
    write,
)

from allready import RunResult, run_sync

TITLES = [
    "Repository",
    "History",
    "Files",
    "Hot spots",
    "Secrets",
    "Lint",
    "To do",
    "Documents",
    "Dependencies",
    "Licences",
    "Types",
    "Tests",
]
GOOD, LOOK, FAILED, NOT_APPLICABLE = "✔ good", "▲ look", "✖ failed", "– not applicable"


@pytest.fixture(autouse=True)
def _tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", BIN, prepend=os.pathsep)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)


def examine(repo: Path | str, **variables: str) -> tuple[RunResult, str]:
    """Run the plan durably; give its result and the report."""
    variables = {"repo": str(repo), **variables}
    result = run_sync(EXAMPLES / "repo_health.yaml", store="store/runs.db", variables=variables)
    report = Path(variables.get("report", "repo_health.md"))
    text = report.read_text(encoding="utf-8") if report.exists() else ""
    return result, text


def summary(report: str) -> dict[str, tuple[str, str]]:
    """Give check → (status, finding) from the report's first table."""
    table = report.split("\n## ")[0]
    rows = re.findall(
        r"^\| \[?([A-Z][\w ]+?)(?:\]\(#[a-z-]+\))? \| (\S .*?) \| .*? \| (.*) \|$", table, re.MULTILINE
    )
    return {title: (status, finding) for title, status, finding in rows}


def section(report: str, title: str) -> str:
    """Give one section of the report."""
    return report.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


# --- this repository --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_first_command_of_the_readme(tmp_path: Path) -> None:
    project = copy_of_this_repository(tmp_path / "project")
    done = program("-m", "allready", "run", "examples/repo_health.yaml", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run completed" in done.stdout
    report = (project / "repo_health.md").read_text(encoding="utf-8")
    found = summary(report)
    assert list(found) == TITLES
    assert {status for status, _ in found.values()} <= {GOOD, LOOK}
    assert report.startswith(f"# Health of project\n\n`{project}`, branch ")
    assert "mostly Python" in found["Repository"][1]
    assert re.search(r"^1 commit by 1 author", found["History"][1])
    assert re.search(r"ruff has nothing to say|\d+ problems? in", found["Lint"][1])
    assert re.search(r"mypy finds no error, and it is strict|\d+ errors? in", found["Types"][1])
    assert int(re.findall(r"^([\d,]+) tests in", found["Tests"][1])[0].replace(",", "")) > 500
    assert "versions fixed in constraints.txt" in found["Dependencies"][1]
    assert found["Licences"] == (GOOD, found["Licences"][1])
    assert found["Licences"][1].startswith("Apache-2.0 (LICENSE); ")
    assert re.search(r"\| sqlalchemy \| `>=", section(report, "Dependencies"))
    assert re.search(r"\| SQLAlchemy \| `[\d.]+` \| MIT", section(report, "Licences"))
    assert git(project, "status", "--porcelain") == "", "the examination left something behind"


# --- others -----------------------------------------------------------------------------------------------


def test_one_commit_blanks_in_the_path_and_a_relative_path(tmp_path: Path) -> None:
    repo = repository(tmp_path / "all my code" / "one commit", notes="hello\n")
    result, report = examine("all my code/one commit", report="reports of mine/health.md")
    assert result.status == "completed"
    found = summary(report)
    assert list(found) == TITLES
    assert f"`{repo}`, branch trunk, commit " in report
    assert found["Repository"] == (GOOD, "1 file, no programming language")
    assert found["Files"] == (GOOD, "1 line in 1 file, 6 bytes")
    assert found["History"] == (GOOD, "1 commit by 1 author, the last one today")
    assert found["Documents"] == (LOOK, "no README")
    assert found["Licences"] == (LOOK, "no licence file")
    for title in ("Lint", "Types", "Tests", "Dependencies"):
        assert found[title][0] == NOT_APPLICABLE
    assert "| A \\| B | 1 | 100% |" in section(report, "History")
    assert "The first \\| commit" in section(report, "History")
    assert result["write_report"].strip() == report.strip()


def test_a_repository_without_python(tmp_path: Path) -> None:
    repo = repository(
        tmp_path / "js",
        **{
            "src__a.js": "console.log(1)\n// TODO: all the rest\n",
            "package.json": '{"name": "x", "dependencies": {"left-pad": "*", "right-pad": "^1.2"}}',
            "README.md": f"# Js\n\n[here](docs/a%20guide.md#top), [gone](nowhere.md)\n{'words ' * 50}",
            "docs__a guide.md": "[up](../README.md) `[no](link)`\n",
            "LICENSE": "MIT License\n\nPermission is hereby granted, free of charge, to any person",
            "deploy.pem": f"-----BEGIN {'RSA'} PRIVATE KEY-----\nMIIEpAIBAAKC\n",
        },
    )
    for number in range(3):
        write(repo, "src/a.js", f"console.log({number})\n// TODO: all the rest\n")
        commit(repo, f"Change {number}")
    result, report = examine(repo)
    assert result.status == "completed"
    found = summary(report)
    assert found["Repository"] == (GOOD, "6 files, mostly JavaScript")
    assert found["History"][1].startswith("4 commits by 1 author")
    assert found["Hot spots"] == (GOOD, "hottest is `src/a.js`: 4 changes, 2 lines")
    assert found["To do"] == (GOOD, "1 comment in 1 file (1 TODO)")
    assert found["Documents"] == (
        LOOK,
        "1 link to files that are not there; 2 pages of Markdown, 3 local links",
    )
    assert "| `README.md` | `nowhere.md` |" in section(report, "Documents")
    assert found["Dependencies"][1] == "2 dependencies in package.json, 1 without a version; no lock file"
    assert found["Licences"] == (GOOD, "MIT (LICENSE)")
    assert found["Tests"] == (NOT_APPLICABLE, "no tests for pytest; perhaps `npm test`")
    assert found["Secrets"] == (LOOK, "2 places to look at")
    assert "`deploy.pem:1` | private key" in section(report, "Secrets")
    assert "MIIEpAIBAAKC" not in report


def python_project(folder: Path, settings: str = "") -> Path:
    project = '[project]\nname = "x"\ndependencies = ["no-such-library-here", "rich>=14"]\n'
    bad = "def test_bad() -> None:\n    raise ValueError\n"
    return repository(
        folder,
        **{
            "pyproject.toml": f"{project}{settings}",
            "thing.py": "import os\n\n\ndef double(x: int) -> str:\n    return x * 2\n",
            "tests__test_thing.py": f"def test_good() -> None: ...\n\n\n{bad}",
        },
    )


def test_a_python_project_with_something_wrong_everywhere(tmp_path: Path) -> None:
    repo = python_project(tmp_path / "py", "[tool.mypy]\nstrict = true\n")
    _, report = examine(repo, run_tests="true")
    found = summary(report)
    assert found["Lint"] == (LOOK, "1 problem in 1 file, 1 can be fixed by ruff")
    assert "| F401 | 1 | `os` imported but unused |" in section(report, "Lint")
    assert found["Types"] == (LOOK, "1 error in 1 file")
    assert "`thing.py:5`" in section(report, "Types")
    assert found["Tests"][0] == LOOK
    assert "1 failed, 1 passed" in found["Tests"][1]
    assert "test_bad" in section(report, "Tests")
    assert found["Dependencies"][1] == "2 dependencies in pyproject.toml, 1 without a version; no lock file"
    assert "1 of 2 Python dependencies looked at" in found["Licences"][1]
    assert git(repo, "status", "--porcelain") == "", "the examination left something behind"


def test_checks_that_break_do_not_stop_the_report(tmp_path: Path) -> None:
    wrong = '[tool.ruff]\nnope = 1\n[tool.mypy]\nplugins = ["nope"]\n'
    wrong += '[tool.pytest.ini_options]\naddopts = "--nope"\n'
    result, report = examine(python_project(tmp_path / "broken", wrong))
    assert result.status == "completed"
    assert {task.id for task in result.tasks.values() if task.status == "failed"} == {
        "lint",
        "types",
        "tests",
    }
    found = summary(report)
    assert list(found) == TITLES
    assert {title for title, (status, _) in found.items() if status == FAILED} == {"Lint", "Types", "Tests"}
    unknown = section(report, "Could not be checked")
    assert "**Lint**: ruff could not run" in unknown
    assert '**Types**: mypy could not run: pyproject.toml:1: error: Error importing plugin "nope"' in unknown
    assert "**Tests**: pytest could not run" in unknown
    assert "unrecognized arguments: --nope" in section(report, "Tests")
    assert "unknown field `nope`" in section(report, "Lint")


def test_a_repository_without_a_commit(tmp_path: Path) -> None:
    result, report = examine(repository(tmp_path / "none"))
    assert result.status == "completed"
    assert "branch trunk, no commit yet;" in report
    assert summary(report)["History"] == (NOT_APPLICABLE, "no commit yet")


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    result, report = examine("plain")
    assert result.status == "failed"
    assert "not a git repository" in (result.error or "")
    assert report == ""
