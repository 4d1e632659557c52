"""What must be right: the pure state machine. Standard library only; no I/O, no clock, no asyncio."""
