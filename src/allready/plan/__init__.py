"""What people write: plans from files and from Python."""
