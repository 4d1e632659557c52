"""From a goal to a plan, and from the tasks' outputs to an answer."""
