"""The virtual clock, where tests look for it; the engine simulates with it (`engine/virtual_clock.py`)."""

from allready.engine.virtual_clock import DeadlockError as DeadlockError
from allready.engine.virtual_clock import VirtualClockLoop as VirtualClockLoop
from allready.engine.virtual_clock import run_virtual as run_virtual
