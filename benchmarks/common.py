"""What the benchmarks share: contestants in environments of their own, tables, and the goals."""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).absolute().parent
PEERS = HERE / "peers"
ENVIRONMENTS = HERE / ".envs"
LONGEST = 300
"""Seconds that one contestant may take in one round; some hang when they can't do something."""
PEER_NAMES = tuple(sorted(path.stem for path in PEERS.glob("*.txt")))
QUIET = {
    "DO_NOT_TRACK": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "PREFECT_API_URL": "",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Nothing is told to anybody, and nothing but the run is logged."""

Edges = Sequence[tuple[str, tuple[str, ...]]]


class Contestant(NamedTuple):
    """One way to run a graph."""

    name: str
    script: str
    """Of `with_SCRIPT.py` in `peers/`."""
    variant: str = ""
    environment: str | None = None
    """Of the file of requirements in `peers/`; None: the project's own environment."""
    largest: int = 1_000
    """Tasks of a graph, at most: what is slow gets smaller ones."""
    alone: bool = False
    """Only where it can have a network of its own, because it listens on all addresses."""


class Times(NamedTuple):
    """Microseconds a task, over all rounds."""

    size: int
    wall: list[float]
    processor: list[float]
    build: list[float]


# --- contestants ------------------------------------------------------------------------------------------


def environment_of(name: str | None) -> Path:
    """Give the Python for a file of requirements, made if it is not there or was made from others."""
    if name is None:
        return Path(sys.executable)
    requirements = PEERS / f"{name}.txt"
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    stamp = folder / ".made"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest() + platform.python_version()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"installing {name} in {folder}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    installers = [[str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]]
    if uv:  # quicker, but it does not read the settings of pip
        installers.insert(0, [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", str(python)])
    for installer in installers:
        if subprocess.run([*installer, "-r", requirements], check=False).returncode == 0:
            stamp.write_text(wanted)
            return python
    raise SystemExit(f"{requirements} can't be installed; leave these out with --peers")


@functools.cache
def own_network() -> list[str]:
    """Give what starts a program in a network and among processes of its own; nothing if that is not allowed.

    Then nothing reaches it and it reaches nothing, wherever it listens; all that it started ends with it.
    """
    command = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with contextlib.suppress(OSError):
        if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0:
            return command
    return []


def measure(
    contestant: Contestant,
    graphs: Mapping[str, Edges],
    *,
    places: int,
    durable: bool = False,
    seconds: float = 1.0,
    times: int = 15,
    naps: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Let a contestant run each graph, in a process of its own; gives what `peers/protocol.py` says."""
    python = environment_of(contestant.environment)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:  # short: Ray puts sockets into it
        folder = Path(name)
        job = {"graphs": graphs, "places": places, "variant": contestant.variant, "durable": durable}
        job |= {"seconds": seconds, "times": times, "alone": bool(own_network()), "naps": naps or {}}
        for kept in ("home", "kept"):
            (folder / kept).mkdir()
        job["folder"] = str(folder / "kept")
        given, answer, log = folder / "job.json", folder / "result.json", folder / "log"
        given.write_text(json.dumps(job))
        variables = QUIET | {
            "HOME": str(folder / "home"),
            "PATH": os.environ.get("PATH", os.defpath),
            "PREFECT_HOME": str(folder / "home" / "prefect"),
            "PYTHONPATH": str(HERE.parent),
            "TMPDIR": str(folder / "kept"),
        }
        script = PEERS / f"with_{contestant.script}.py"
        command = [*own_network(), str(python), str(script), str(given), str(answer)]
        with log.open("w") as told:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(LONGEST)
            except subprocess.TimeoutExpired:
                print(f"{contestant.name} was ended after {LONGEST} s", file=sys.stderr)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if not answer.exists():
            raise RuntimeError(f"{contestant.name} failed:\n{log.read_text()[-3000:]}")
        result: dict[str, Any] = json.loads(answer.read_text())
        return result


def compete(
    contestants: Iterable[Contestant],
    shapes: dict[str, Any],
    size: int,
    *,
    rounds: int,
    places: int,
    durable: bool = False,
) -> tuple[dict[str, dict[str, Times]], dict[str, str]]:
    """Let all run the same shapes in turn, `rounds` times; gives contestant → shape → times, and versions."""
    found: dict[str, dict[str, Times]] = {}
    versions: dict[str, str] = {}
    for round_ in range(rounds):
        for contestant in contestants:
            if contestant.alone and not own_network():
                if not round_:
                    print(f"{contestant.name} is left out: no network of its own", file=sys.stderr)
                continue
            of_this = min(size, contestant.largest)
            graphs = {shape: make(of_this) for shape, make in shapes.items()}
            print(f"round {round_ + 1} of {rounds}: {contestant.name}", file=sys.stderr, flush=True)
            try:
                result = measure(contestant, graphs, places=places, durable=durable)
            except RuntimeError as error:
                if contestant.environment is None:
                    raise
                print(error, file=sys.stderr)  # the figures of the others are worth having
                continue
            versions |= result["versions"]
            kept = found.setdefault(contestant.name, {})
            for shape, runs in result["times"].items():
                times = kept.setdefault(shape, Times(of_this, [], [], []))
                for column in ("wall", "processor", "build"):
                    getattr(times, column).extend(run[column] / of_this * 1e6 for run in runs)
    return found, versions


# --- tables -----------------------------------------------------------------------------------------------


def table(head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    """Give the lines of a Markdown table; a column is to the left if its head begins with a blank."""
    yield "| " + " | ".join(cell.strip() for cell in head) + " |"
    yield "|" + "".join(" --- |" if cell.startswith(" ") else " ---: |" for cell in head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


def judged(value: float, goal: float, *, at_least: bool = False) -> str:
    met = value >= goal if at_least else value <= goal
    return short(value) if met else f"**{short(value)}**"


def short(value: float) -> str:
    """Give a figure with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """Give the median, and from where to where they go."""
    if len(values) == 1:
        return short(values[0])
    return f"{short(statistics.median(values))} ({short(min(values))} to {short(max(values))})"


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} processors, {platform.system()}, Python {platform.python_version()}"


# --- options ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """What is measured, and how often."""

    size: int = 1_000
    """Tasks of a graph beside peers; slow ones get fewer."""
    rounds: int = 3
    peers: tuple[str, ...] = PEER_NAMES
    largest: int = 1_000_000
    """Tasks of the largest graph when growth is measured."""
    quick: bool = False
    """Small and once, to try the scripts themselves."""

    def chosen(self, contestants: Iterable[Contestant]) -> list[Contestant]:
        return [one for one in contestants if one.environment in (None, *self.peers)]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=1_000, help="tasks of a graph beside peers (1000)")
    parser.add_argument("--rounds", type=int, default=3, help="how often each contestant is started (3)")
    parser.add_argument("--peers", default="all", help=f"all, none, or some of {','.join(PEER_NAMES)}")
    parser.add_argument("--largest", type=int, default=1_000_000, help="tasks when growth is measured")
    parser.add_argument(
        "--quick", action="store_true", help="small and once, without peers: to try the scripts"
    )


def options_from(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Options:
    if given.quick:
        return Options(100, 1, (), quick=True)
    peers = {"all": PEER_NAMES, "none": ()}.get(given.peers, tuple(given.peers.split(",")))
    if unknown := set(peers) - set(PEER_NAMES):
        parser.error(f"--peers: there is no {', '.join(sorted(unknown))}; there are {', '.join(PEER_NAMES)}")
    return Options(given.size, given.rounds, peers, given.largest)


def main(report: Callable[[Options], Iterator[str]], doc: str | None) -> None:
    """Print one benchmark's report."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    add_options(parser)
    options = options_from(parser, parser.parse_args())
    print(f"{machine()}. Goals missed are bold.\n")
    for line in report(options):
        print(line, flush=True)
    if VERSIONS:
        print(versions_line())


VERSIONS: dict[str, str] = {}
"""Of the packages that were measured, since this process began."""


def note(versions: dict[str, str]) -> None:
    VERSIONS.update(versions)


def versions_line() -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(VERSIONS.items()))
