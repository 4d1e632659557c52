"""For tests, ours and yours: a virtual clock."""

from allready.testing.clock import DeadlockError as DeadlockError
from allready.testing.clock import VirtualClockLoop as VirtualClockLoop
from allready.testing.clock import run_virtual as run_virtual
