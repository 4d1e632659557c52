"""The command line: parses, calls the engine, and shows."""
