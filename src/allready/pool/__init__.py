"""Admission of sub-agents, and where they live."""
