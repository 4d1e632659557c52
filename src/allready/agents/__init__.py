"""Who can do tasks: definitions, the router, the context of a task, and the kinds of agents."""
