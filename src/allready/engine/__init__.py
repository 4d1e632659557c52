"""The loop around the scheduler, and the life of a run: start, resume, steer, observe."""
