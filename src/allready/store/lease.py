"""Keeping a run's lease, and hearing of commands: one thread beside the event loop.

Beside it, because a loop that is busy for ten seconds must not lose its run. What the thread does:

* every `LOOK_SECONDS` it asks `store.changed()`, which costs some microseconds; only if somebody wrote
  does it read the pending commands, and hands over those it has not handed over before;
* every `RENEW_SECONDS` it renews the lease. A store that does not work is asked again and again. When another
  owner has taken the run, `on_lost` is called, once, and the thread ends.

The lease is valid until `LEASE_SECONDS` after the *start* of the last renewal that succeeded: in the store
it runs from a later instant, so nobody can have taken the run while `valid()` says yes. When it has run out,
nothing may be started until it has been renewed, which succeeds if nobody took the run meanwhile: thus a run
outlives a store that is away, and a machine that slept. The clock counts the time that the machine sleeps,
where there is such a clock, and never jumps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from allready.errors import LeaseLost, StoreError
from allready.store.contract import LEASE_SECONDS, RENEW_SECONDS, CommandRow, Lease, Store

_log = logging.getLogger(__name__)
LOOK_SECONDS = RENEW_SECONDS / 8
"""How often is looked for commands of other processes; they are to work within a second.

A part of the time between renewals, so that both happen on the same waking: waking up, with everything cold,
is what costs (0.2 ms); asked more often, an idle run would need 0.1 % of a processor."""
RETRY_SECONDS = 0.5
"""How soon is tried again to renew a lease after the store failed."""


def lease_clock() -> float:
    """Give seconds on a clock that never jumps, and goes on while the machine sleeps (on Linux)."""
    return time.clock_gettime(_CLOCK)


_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseKeeper:
    """Renews a lease and brings commands, from a daemon thread; the callbacks are called in that thread.

    `clock` and `wait` (of an event, for some seconds; whether it was set) are for tests.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        on_commands: Callable[[list[CommandRow]], None] | None = None,
        on_lost: Callable[[LeaseLost], None] | None = None,
        clock: Callable[[], float] = lease_clock,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._store = store
        self._lease = lease
        self._on_commands = on_commands
        self._on_lost = on_lost
        self._clock = clock
        self._wait = wait
        self._stop = threading.Event()
        self._lost = False
        self._renewed_at = lease.taken_at if lease.taken_at is not None else clock()
        self._renew_next = self._renewed_at + RENEW_SECONDS
        self._look_closer = True
        """Whether there may be commands that were not read yet: at the start, and after an error."""
        self._delivered: set[int] = set()
        self._thread = threading.Thread(
            target=self._keep, name=f"allready-lease-{lease.run_id[:8]}", daemon=True
        )

    def waiting(self) -> list[CommandRow]:
        """Give the commands that wait already; they are not handed over again. Call it before `start`.

        Raises `StoreError`.
        """
        pending = self._store.pending_commands(self._lease.run_id)
        self._delivered = {command.id for command in pending}
        return pending

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """End the thread and wait until it has; the lease itself is not released."""
        self._stop.set()
        if wait and self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def valid(self) -> bool:
        """Say whether nobody else can own the run right now."""
        return not self._lost and self._clock() < self._renewed_at + LEASE_SECONDS

    def renew(self) -> None:
        """Renew the lease now. Raises `LeaseLost` if another process took the run, `StoreError`."""
        now = self._clock()
        self._store.renew(self._lease.run_id, self._lease.epoch)
        self._renewed_at = max(now, self._renewed_at)

    # --- in the thread ----------------------------------------------------------------------------------

    def _keep(self) -> None:
        look_next = self._clock()
        while not self._stop.is_set():
            now = self._clock()
            if now >= self._renew_next and not self._renew_in_time(now):
                return
            if now >= look_next:
                self._look()
                look_next = now + LOOK_SECONDS
            wake = min(look_next, self._renew_next) if self._on_commands else self._renew_next
            self._wait(self._stop, max(wake - self._clock(), 0.0))

    def _renew_in_time(self, now: float) -> bool:
        """Renew the lease; gives whether the run is still ours, as far as can be known."""
        try:
            self.renew()
        except LeaseLost as error:
            self._lost = True
            if self._on_lost is not None and not self._stop.is_set():
                self._on_lost(error)
            return False
        except Exception as error:  # what a broken store means is judged where something is to be written
            if not isinstance(error, StoreError):
                _log.exception("the lease on run %s can't be renewed", self._lease.run_id)
            self._renew_next = self._clock() + RETRY_SECONDS
        else:
            self._renew_next = now + RENEW_SECONDS
        return True

    def _look(self) -> None:
        """Hand over commands that were recorded since the last look."""
        if self._on_commands is None:
            return
        try:
            self._look_closer |= self._store.changed(self._lease.run_id)
            if not self._look_closer:
                return
            pending = self._store.pending_commands(self._lease.run_id)
        except Exception as error:  # tried again at the next look
            if not isinstance(error, StoreError):
                _log.exception("the commands of run %s can't be read", self._lease.run_id)
            self._look_closer = True
            return
        self._look_closer = False
        fresh = [command for command in pending if command.id not in self._delivered]
        self._delivered = {command.id for command in pending}
        if fresh:
            self._on_commands(fresh)
