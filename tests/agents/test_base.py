"""What every agent may ask of its attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agents.attempts import make_attempt

from allready.errors import LostError, TransientError


def test_without_the_lease_nothing_begins_and_what_has_begun_is_lost(tmp_path: Path) -> None:
    held = [False, True, True, False]

    def check_lease() -> None:
        if not held.pop(0):
            raise TransientError("the lease ran out")

    attempt = make_attempt(tmp_path, check_lease=check_lease)
    with pytest.raises(TransientError, match="lease") as not_begun:
        attempt.begin()
    assert not isinstance(not_begun.value, LostError), "nothing was done: it may be done later"
    attempt.begin()
    attempt.begin()
    with pytest.raises(LostError, match="lease"):
        attempt.begin()
