"""File tools on real files, as a model uses them: within the folder, within bounds, whatever is asked for."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.agents.attempts import make_attempt
from tests.agents.tools.using import Use, put

from allready.agents.tools import file_tools, finding, workspace
from allready.agents.tools.finding import Query, glob_filter
from allready.agents.tools.names import FILE_TOOLS
from allready.agents.tools.workspace import MAX_CHARACTERS, MAX_LINE, MAX_LISTED, Refused, Workspace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    return place


@pytest.fixture
def use(folder: Path, tmp_path: Path) -> Use:
    return Use(make_attempt(tmp_path, base_dir=folder), *FILE_TOOLS)


# --- what the model is told


async def test_the_tools_describe_themselves(use: Use) -> None:
    await use("list_files")
    assert list(use.seen) == list(FILE_TOOLS)
    read = use.seen["read_file"]
    assert read.description == "Read a text file."
    assert read.parameters_json_schema["required"] == ["path"]
    properties = read.parameters_json_schema["properties"]
    assert properties["offset"]["description"] == "The line to begin with, from 1."


# --- reading


async def test_a_file_is_read_and_read_on(use: Use, folder: Path) -> None:
    put(folder, "a/b.txt", "".join(f"line {n}\n" for n in range(1, 6)))
    assert (await use("read_file", path="a/b.txt")).text == "line 1\nline 2\nline 3\nline 4\nline 5\n"
    assert (await use("read_file", path="a/b.txt", offset=2, limit=2)).text == (
        "line 2\nline 3\n[… a/b.txt goes on: read on with offset=4]\n"
    )
    assert (await use("read_file", path=str(folder / "a/b.txt"), offset=4)).text == "line 4\nline 5\n"
    answer = await use("read_file", path="a/b.txt", offset=7)
    assert answer == ("a/b.txt has only 5 lines", True)


async def test_odd_texts(use: Use, folder: Path) -> None:
    put(folder, "empty", "")
    put(folder, "open", "a\nb")
    put(folder, "latin", b"caf\xe9\n")
    put(folder, "wide", "ä" * 50_000 + "\nnext\n")
    assert (await use("read_file", path="empty")).text == "[empty is empty]"
    assert (await use("read_file", path="open", offset=2)).text == "b"
    assert (await use("read_file", path="open", offset=3)) == ("open has only 2 lines", True)
    assert (await use("read_file", path="latin")).text == "caf\ufffd\n"
    text = (await use("read_file", path="wide")).text
    assert text == "ä" * MAX_LINE + " [… the rest of this line is left out]\nnext\n"


async def test_results_are_bounded(use: Use, folder: Path) -> None:
    put(folder, "big", ("x" * 99 + "\n") * 100_000)
    text = (await use("read_file", path="big", limit=1_000_000)).text
    assert len(text) < MAX_CHARACTERS + 100
    offset = int(text.rpartition("offset=")[2].rstrip("]\n"))
    assert text.count("x" * 99 + "\n") == offset - 1
    again = (await use("read_file", path="big", offset=offset)).text
    assert again.startswith("x" * 99)


async def test_a_huge_file_is_not_read_to_its_end(
    use: Use, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "MAX_SKIPPED", 1000)
    path = put(folder, "huge", "first\n" * 2000)
    os.truncate(path, 50 * 1024**3)  # sparse: it takes no room
    assert (await use("read_file", path="huge", limit=1)).text.startswith("first\n[… huge goes on")
    answer = await use("read_file", path="huge", offset=10_000)
    assert answer.refused
    assert answer.text.startswith("line 10,000 is too far into the file")
    put(folder, "line", "x" * 200_000)
    assert (await use("read_file", path="line")).text.startswith("x" * MAX_LINE + " [… the rest")


async def test_what_is_no_text_is_refused_kindly(use: Use, folder: Path) -> None:
    put(folder, "image.png", b"\x89PNG\0\0" * 100)
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    assert await use("read_file", path="image.png") == (
        "image.png is no text file (600 bytes): it can't be read here",
        True,
    )
    assert await use("read_file", path="pipe") == ("pipe is no file", True)
    assert await use("read_file", path="folder") == ("folder is a folder: use list_files", True)
    assert await use("read_file", path="gone") == (
        "there is no file gone; list_files shows what there is",
        True,
    )
    assert await use("read_file", path="gone", offset=0) == ("offset and limit count lines from 1", True)
    assert (await use("read_file", path="x" * 5000)).text.endswith("File name too long")
    put(folder, "secret", "no").chmod(0)
    if os.geteuid() != 0:
        assert await use("read_file", path="secret") == ("secret can't be read: Permission denied", True)


# --- staying inside


@pytest.fixture
def outside(folder: Path, tmp_path: Path) -> Path:
    """Ways out of the folder: links to a file, to a folder, a chain, and one that leads nowhere yet."""
    put(tmp_path, "outside/secret.txt", "secret")
    (folder / "link").symlink_to(tmp_path / "outside/secret.txt")
    (folder / "up").symlink_to("..")
    (folder / "chain").symlink_to("up")
    (folder / "future").symlink_to(tmp_path / "outside/new.txt")
    return tmp_path / "outside"


ESCAPES = [
    "../outside/secret.txt",
    "a/../../outside/secret.txt",
    "/etc/passwd",
    "link",
    "up/outside/secret.txt",
    "chain/outside/secret.txt",
    "future",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.usefixtures("outside")
async def test_no_way_leads_out(use: Use, outside: Path, path: str) -> None:
    before = {item: item.read_bytes() for item in outside.iterdir()}
    answers = await use.calls(
        ("read_file", {"path": path}),
        ("list_files", {"path": path}),
        ("search_files", {"pattern": ".", "path": path}),
        ("write_file", {"path": path, "content": "mine"}),
        ("edit_file", {"path": path, "old": "secret", "new": "mine"}),
    )
    for answer in answers:
        assert answer == (f"{path} is not below the working folder: only files in there can be used", True)
    assert {item: item.read_bytes() for item in outside.iterdir()} == before


@pytest.mark.usefixtures("outside")
async def test_searches_and_lists_follow_no_links(use: Use, folder: Path) -> None:
    put(folder, "real.txt", "not secret at all")
    assert (await use("search_files", pattern="secret")).text == "real.txt:1: not secret at all"
    assert (await use("list_files", pattern="**")).text == "chain\nfuture\nlink\nreal.txt\nup"


@pytest.mark.parametrize("path", ["a\0b", ""])
async def test_what_is_no_path_is_refused(use: Use, path: str) -> None:
    for name, args in (("read_file", {}), ("write_file", {"content": "x"})):
        answer = await use(name, path=path, **args)
        assert answer.refused
        assert answer.text


@pytest.mark.parametrize(
    "path",
    [
        *(".git/hooks/pre-commit", "sub/.git/config", ".GIT/config", "to_git/config"),
        *(".allready/agents/x.md", ".claude/agents/x.md", ".mcp.json", "sub/Allready.toml"),
        *(".github/workflows/x.yml", ".GitHub/workflows/x.yml", ".husky/pre-commit"),
        *(".pre-commit-config.yaml", "sub/.envrc", ".vscode/tasks.json", ".VSCode"),
    ],
)
async def test_what_says_what_others_run_is_not_written(use: Use, folder: Path, path: str) -> None:
    put(folder, ".git/config", "[core]\n")
    (folder / "to_git").symlink_to(".git")
    answer = await use("write_file", path=path, content="evil")
    assert answer.refused
    assert " can't be written: it says what others run (" in answer.text
    assert sorted(str(item.relative_to(folder)) for item in folder.rglob("*")) == [
        ".git",
        ".git/config",
        "to_git",
    ]
    assert (await use("edit_file", path="to_git/config", old="core", new="evil")).refused
    assert (folder / ".git/config").read_text() == "[core]\n"


async def test_the_working_folder_itself_may_lie_in_such_a_folder(tmp_path: Path) -> None:
    inside = tmp_path / ".git/worktree"
    inside.mkdir(parents=True)
    use = Use(make_attempt(tmp_path, base_dir=inside), "Write")
    assert not (await use("write_file", path="x", content="fine")).refused


@pytest.mark.parametrize(
    "path", [".bashrc", ".BashRC", ".zshenv", ".config/git/config", ".ssh/authorized_keys"]
)
async def test_what_runs_at_login_is_not_written_in_a_home(
    path: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").symlink_to(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    answer = await Use(make_attempt(tmp_path, base_dir=folder), "Write")("write_file", path=path, content="x")
    assert answer.refused
    assert " can't be written: it says what others run (" in answer.text
    assert list(folder.iterdir()) == []
    above = Use(make_attempt(tmp_path / "above", base_dir=tmp_path), "Write")
    assert (await above("write_file", path=f"project/{path}", content="x")).refused
    assert not (await above("write_file", path=path, content="x")).refused, "a project may hold such files"
    inside = Use(make_attempt(tmp_path / "inside", base_dir=folder / ".config"), "Write")
    assert not (await inside("write_file", path="x", content="x")).refused


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(
        st.sampled_from(["..", ".", "a", "up", "link", "/", "//", "~", "b c", "", "\\"]), max_size=8
    )
)
def test_any_path_stays_inside(folder: Path, tmp_path: Path, parts: list[str]) -> None:
    for name, target in (("up", ".."), ("link", str(tmp_path / "elsewhere"))):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    try:
        place = Workspace(folder)._resolve("/".join(parts))
    except Refused:
        return
    assert place == folder or folder in place.parents


# --- writing


async def test_a_file_is_written_whole_and_its_mode_stays(use: Use, folder: Path) -> None:
    script = put(folder, "run.sh", "old")
    script.chmod(0o750)
    before = script.stat().st_ino
    assert (await use("write_file", path="run.sh", content="echo ä\n")).text == (
        "run.sh was replaced: 7 characters"
    )
    assert script.read_text() == "echo ä\n"
    assert stat.S_IMODE(script.stat().st_mode) == 0o750
    assert script.stat().st_ino != before
    await use("write_file", path="new/deep/x.txt", content="")
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((folder / "new/deep/x.txt").stat().st_mode) == 0o666 & ~mask
    assert [item.name for item in folder.rglob(".*")] == []


async def test_a_link_stays_a_link(use: Use, folder: Path) -> None:
    put(folder, "real.txt", "old")
    (folder / "link.txt").symlink_to("real.txt")
    await use("write_file", path="link.txt", content="new")
    assert (folder / "link.txt").is_symlink()
    assert (folder / "real.txt").read_text() == "new"


async def test_what_can_not_be_written_is_told(
    use: Use, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "file", "x")
    os.mkfifo(folder / "pipe")
    assert await use("write_file", path=".", content="x") == (". is a folder", True)
    assert await use("write_file", path="pipe", content="x") == ("pipe is no regular file", True)
    assert await use("write_file", path="file/below", content="x") == (
        "file/below can't be written: File exists",
        True,
    )
    monkeypatch.setattr(workspace, "MAX_WRITTEN", 5)
    assert (await use("write_file", path="x", content="123456")).text.startswith("the text is longer than 5")
    assert sorted(item.name for item in folder.iterdir()) == ["file", "pipe"]


async def test_an_edit_needs_an_exact_and_unique_match(use: Use, folder: Path) -> None:
    path = put(folder, "a.py", "x = 1\ny = 1\n")
    assert (await use("edit_file", path="a.py", old="x = 1", new="x = 2")).text == (
        "a.py was changed in 1 place"
    )
    assert await use("edit_file", path="a.py", old="= 3", new="") == (
        "the text is not in a.py: read it again; blanks and line ends must be the same",
        True,
    )
    assert await use("edit_file", path="a.py", old=" = ", new="=") == (
        "the text is in a.py 2 times: give more of what is around it, or set replace_all",
        True,
    )
    assert (await use("edit_file", path="a.py", old=" = ", new="=", replace_all=True)).text.endswith(
        "2 places"
    )
    assert path.read_text() == "x=2\ny=1\n"
    assert (await use("edit_file", path="a.py", old="", new="x")).text.startswith("old is empty")
    assert (await use("edit_file", path="a.py", old="x", new="x")).text.startswith("old and new are the same")
    assert (await use("edit_file", path="gone", old="x", new="y")).text.startswith("there is no file gone")


async def test_edits_keep_bytes_and_line_ends(
    use: Use, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(folder, "dos.txt", b"caf\xe9\r\none\r\ntwo\r\n")
    await use("edit_file", path="dos.txt", old="one\ntwo", new="1\n2")
    assert path.read_bytes() == b"caf\xe9\r\n1\r\n2\r\n"
    put(folder, "bin", b"a\0b")
    assert await use("edit_file", path="bin", old="a", new="c") == (
        "bin is no text file: it can't be edited",
        True,
    )
    monkeypatch.setattr(workspace, "MAX_EDITED_BYTES", 3)
    assert (await use("edit_file", path="dos.txt", old="1", new="c")).text.startswith("dos.txt is larger")


async def test_edits_at_the_same_time_lose_nothing(use: Use, folder: Path) -> None:
    path = put(folder, "list", "".join(f"<{n}>" for n in range(50)))
    await use.calls(*(("edit_file", {"path": "list", "old": f"<{n}>", "new": f"[{n}]"}) for n in range(50)))
    assert path.read_text() == "".join(f"[{n}]" for n in range(50))


# --- finding


async def test_folders_are_listed(use: Use, folder: Path) -> None:
    for name in ("b.py", "src/a.py", "src/deep/test_a.py", ".git/config", ".hidden/x.py", "c.js"):
        put(folder, name, "")
    listed = (await use("list_files")).text
    assert listed == ".git/\n.hidden/\nb.py\nc.js\nsrc/"
    assert (await use("list_files", pattern="*.py")).text == (
        "b.py\n.hidden/x.py\nsrc/a.py\nsrc/deep/test_a.py"
    )
    assert (await use("list_files", pattern="src/**/*.py")).text == "src/a.py\nsrc/deep/test_a.py"
    assert (await use("list_files", pattern="*.{js,ts}")).text == "c.js"
    assert (await use("list_files", pattern="*_a.py", path="src")).text == "src/deep/test_a.py"
    assert (await use("list_files", pattern="*.md")).text == "[no files]"
    assert await use("list_files", path="gone") == ("there is no folder gone", True)
    assert (await use("list_files", pattern="{a,b}" * 20)).text.startswith("the pattern stands for too many")
    assert await use("list_files", path="b.py") == ("b.py is no folder", True)


async def test_long_lists_are_cut(use: Use, folder: Path) -> None:
    for number in range(MAX_LISTED + 5):
        put(folder, f"{number:04}", "")
    lines = (await use("list_files")).text.splitlines()
    assert lines[-1] == "[… and 5 more: narrow it down]"
    assert len(lines) == MAX_LISTED + 1


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("*.py", ["a.py", "x/y/a.py"], ["a.pyc", "py"]),
        ("x/*.py", ["x/a.py"], ["x/y/a.py", "a.py"]),
        ("x/**", ["x/a", "x/y/z"], ["y/a"]),
        ("**/x/**/*.py", ["x/a.py", "a/x/b/c/d.py"], ["a.py", "y/a.py"]),
        ("./a", ["a"], ["b"]),
        ("**", ["a", "x/y"], []),
        ("**/**/a", ["a", "x/y/a"], ["b"]),
        ("[ab]?", ["ax", "b1"], ["a", "cx"]),
        ("{a,b/{c,d}}.x", ["a.x", "b/c.x", "b/d.x"], ["c.x", "b.x"]),
        ("a[", ["a["], ["a"]),
        ("{a", ["{a"], ["a"]),
    ],
)
def test_globs(pattern: str, yes: list[str], no: list[str]) -> None:
    fits = glob_filter(pattern)
    assert [path for path in [*yes, *no] if fits(path)] == yes


def test_globs_that_explode_do_not() -> None:
    assert not glob_filter("*a" * 60 + "b")("a" * 250)
    assert not glob_filter("**/" * 60 + "x")("/".join(["y"] * 2000))
    assert not glob_filter("**/a/" * 40)("/".join(["a"] * 200) + "/b")
    with pytest.raises(ValueError, match="longer than 200"):
        glob_filter("*" * 201)
    with pytest.raises(ValueError, match="stands for too many"):
        glob_filter("{a,b}" * 30)


async def test_lines_are_found(use: Use, folder: Path) -> None:
    put(folder, "a.py", "import os\nIMPORT re\n")
    put(folder, "src/b.py", "  import sys\n" + "import " + "x" * 1000 + "\n")
    put(folder, "b.txt", "import nothing\n")
    put(folder, "image", b"import\0")
    os.mkfifo(folder / "pipe")
    answer = await use("search_files", pattern=r"^\s*import (\w+)", glob="*.py")
    assert answer.text.splitlines() == [
        "a.py:1: import os",
        "src/b.py:1:   import sys",
        "src/b.py:2: import " + "x" * 493 + " […]",
    ]
    answer = await use("search_files", pattern="import re", path="a.py", ignore_case=True)
    assert answer.text == "a.py:2: IMPORT re"
    assert (await use("search_files", pattern="nowhere")).text == "[no matches]"
    assert await use("search_files", pattern="x", path="gone") == ("there is no gone", True)
    assert list((use.attempt.folder / "tools").iterdir()) == []


async def test_many_matches_come_in_parts(use: Use, folder: Path) -> None:
    put(folder, "a", "".join(f"hit {n}\n" for n in range(150)))
    first = (await use("search_files", pattern="hit")).text.splitlines()
    assert len(first) == 101
    assert first[-1] == "[… there are more: go on with skip=100]"
    second = (await use("search_files", pattern="hit", skip=100)).text.splitlines()
    assert second == [f"a:{n + 1}: hit {n}" for n in range(100, 150)]
    assert (await use("search_files", pattern="hit", skip=150)).text == "[no further matches]"


async def test_wrong_expressions_are_explained(use: Use) -> None:
    assert await use("search_files", pattern="(") == (
        "the regular expression is not valid: missing ), unterminated subpattern at position 0",
        True,
    )
    assert (await use("search_files", pattern="x" * 2000)).text.startswith("the pattern is longer than")
    assert (await use("search_files", pattern="x", glob="{a,b}" * 30)).text.startswith("the pattern stands")


async def test_an_expression_that_explodes_is_ended(
    use: Use, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tools, "SEARCH_TIME", 1.0)
    put(folder, "a", "aab\n")
    put(folder, "b", "a" * 5000 + "\n")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.05)

    ticking = asyncio.create_task(tick())
    answer = await use("search_files", pattern="(a+)+b$")
    ticking.cancel()
    assert answer.text.splitlines() == [
        "a:1: aab",
        "[… ended after 1 seconds: use a simpler regular expression, or search in fewer files]",
    ]
    assert ticks > 5  # the loop was never held up


def test_a_search_says_what_it_did_not_look_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(finding, "MAX_ENTRIES", 3)
    for name in "abcde":
        put(folder, name, "hit\n")
    query = Query(str(folder), "", "hit", None, ignore_case=False, skip=0, limit=9)
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(query._asdict())))
    finding.main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"more": False, "cut": True}
    assert file_tools._remarks(0, query, last, 0) == [
        "[… not all files were searched, there are too many: name a folder below]"
    ]


def test_a_line_that_was_not_written_to_its_end_is_left_out(tmp_path: Path) -> None:
    path = put(tmp_path, "search/output.txt", '"a:1: x"\n"a:2')
    assert file_tools._take_lines(path) == ["a:1: x"]
    assert not path.parent.exists()


async def test_too_many_files_are_told(use: Use, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allready.agents.tools.finding.MAX_ENTRIES", 3)
    for number in range(5):
        put(folder, f"sub/{number}", "")
    assert await use("list_files", pattern="*") == (". holds too many files: name a folder below it", True)
