"""One small model for all tests here; it is started when the first of them asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.llm.small_model import SmallModel, missing, small_model


@pytest.fixture(scope="session")
def the_small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallModel]:
    absent = missing()
    if absent is not None:
        pytest.skip(absent)
    with small_model(tmp_path_factory.mktemp("small_model") / "log.txt") as model:
        yield model


@pytest.fixture
def small(the_small_model: SmallModel, monkeypatch: pytest.MonkeyPatch) -> SmallModel:
    """The small model, with the environment that leads to it."""
    for name, value in the_small_model.environment.items():
        monkeypatch.setenv(name, value)
    return the_small_model
