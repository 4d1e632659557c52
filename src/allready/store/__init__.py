"""The durable memory of runs: the contract, and one SQL implementation."""
