"""allready."""
