"""`Budget`: what a run may use up of models, what it has used, and what is reserved for attempts under way.

Before an attempt of a model starts, what it will probably take is reserved; when it ends, what it took is
settled. A reservation that does not fit is a refusal like any other of the pool, with the scope `budget`: the
task waits for attempts under way to settle. When nothing is under way, the run pauses: only a higher limit
helps, and nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from allready.agents.usage import Usage
from allready.errors import ConcurrencyLimit
from allready.plan.plan import Limits

FIRST_GUESS: Mapping[str, float] = {"max_tokens": 5_000, "max_requests": 1, "max_cost": 0.0}
"""What is reserved for an attempt of an agent without limits of its own, before any has ended. Tokens: the
context of its dependencies (some 4,000, see agents.context) and an answer, which the price is for."""

Amounts = dict[str, float]
"""Name of a limit → an amount in its unit."""


class Reached(NamedTuple):
    """A limit that stands in the way."""

    name: str
    """`max_tokens`, `max_requests` or `max_cost`."""
    limit: float
    text: str
    """All about it, in a sentence."""

    @property
    def higher(self) -> tuple[str, str]:
        """Give the option that doubles it, and its value."""
        value = f"{2 * self.limit:g}" if self.name == "max_cost" else str(round(2 * self.limit))
        return f"--{self.name.replace('_', '-')}", value


class Budget:
    """The limits of one run.

    `needs` has the agents that ask models, with the most that one attempt of each may take, as far as it is
    limited. `memory` is what the budget of an earlier process gave; the limits in it count. `first_cost` is
    what an attempt may cost, in US dollars, before any has ended.
    """

    def __init__(
        self,
        limits: Limits,
        needs: Mapping[str, Limits],
        memory: Mapping[str, Any] | None = None,
        *,
        first_cost: float = 0.0,
    ) -> None:
        memory = memory or {}
        self.used = Usage.from_json(memory.get("used", {}))
        """All that was used up, by attempts under way too."""
        self.reached: Reached | None = None
        """What stands in the way, if a reservation was refused with nothing under way."""
        self.paused_for = Reached(*memory["reached"]) if "reached" in memory else None
        """The same, when the run was paused for it."""
        self._first_guess: Mapping[str, float] = {**FIRST_GUESS, "max_cost": first_cost}
        self._limits = _given(limits) | memory.get("limits", {})
        self._needs = {agent: _given(own) for agent, own in needs.items()}
        self._agents: dict[str, str] = {}
        """Attempt → its agent, from the reservation to the end."""
        self._reserved: dict[str, Amounts] = {}
        """Attempt → what it may still take."""
        self._taken: dict[str, Usage] = {}
        """Attempt → what it took so far."""
        self._seen: dict[str, tuple[int, Usage]] = {
            agent: (count, Usage.from_json(total)) for agent, (count, total) in memory.get("seen", {}).items()
        }
        """Agent → how many attempts of it have ended, and what they took in all."""

    def raise_to(self, limits: Limits) -> None:
        """Take other limits, as far as they are given."""
        self._limits |= _given(limits)
        self.paused_for = None

    def check(self, agent: str | None) -> None:
        """Raise `ConcurrencyLimit` unless an attempt of this agent fits into what is left."""
        if agent is None or agent not in self._needs or not self._limits:
            return
        needs, used = self._demand(agent), _amounts(self.used)
        for name, limit in self._limits.items():
            reserved = sum(amounts[name] for amounts in self._reserved.values())
            if used[name] + reserved + needs[name] <= limit:
                continue
            guessed = not self._seen and name not in self._needs[agent]
            if guessed and not self._reserved and used[name] < limit:
                continue  # alone it may try with what is left: `allowance` keeps it within that
            reason = f"{name}: {_told(name, used[name])} of {_told(name, limit)} used"
            if reserved:
                reason += f", {_told(name, reserved)} reserved for what is under way"
            reason += f", and {agent} needs about {_told(name, needs[name])}"
            if not self._reserved:
                self.reached = Reached(name, limit, f"the run has reached its limit: {reason}")
            raise ConcurrencyLimit(reason, "budget", round(used[name] + reserved), round(limit))

    def reserve(self, handle: str, agent: str | None) -> None:
        """Set aside what an attempt will probably take. Call `check` first; planning need not."""
        if agent is not None and (agent in self._needs or agent == handle):
            self._agents[handle] = agent
            self._reserved[handle] = self._demand(agent)
            self.reached = None

    def pause_for_planning(self, text: str) -> None:
        """Note that planning can't go on within the limits; `text` says so."""
        used = _amounts(self.used)
        name = max(self._limits, key=lambda name: used[name] / self._limits[name])
        self.paused_for = Reached(name, self._limits[name], text)

    def take(self, handle: str, usage: Usage) -> None:
        """Note what a request of an attempt took."""
        self.used += usage
        self._taken[handle] = self._taken.get(handle, Usage()) + usage
        reserved = self._reserved.get(handle, {})
        for name, amount in _amounts(usage).items():
            if name in reserved:
                reserved[name] = max(0.0, reserved[name] - amount)

    def settle(self, handle: str) -> Usage:
        """Give what an attempt took in all: it has ended."""
        self._reserved.pop(handle, None)
        taken = self._taken.pop(handle, Usage())
        agent = self._agents.pop(handle, None)
        if agent is not None and taken:
            count, total = self._seen.get(agent, (0, Usage()))
            self._seen[agent] = (count + 1, total + taken)
        return taken

    def allowance(self, handle: str) -> Limits:
        """Give the most that an attempt may still use up: what no other one has reserved."""
        used = _amounts(self.used)
        left = {}
        for name, limit in self._limits.items():
            others = sum(amounts[name] for key, amounts in self._reserved.items() if key != handle)
            left[name] = max(0.0, limit - used[name] - others)
        tokens, requests = left.get("max_tokens"), left.get("max_requests")
        return Limits(
            None if tokens is None else int(tokens),
            None if requests is None else int(requests),
            left.get("max_cost"),
        )

    def memory(self) -> dict[str, Any]:
        """Give what a resumed run must know, as JSON values; nothing if there is nothing."""
        seen = {agent: [count, total.to_json()] for agent, (count, total) in self._seen.items()}
        used = self.used.to_json() if self.used else {}
        found = (self._limits, used, seen, list(self.paused_for or ()))
        return {name: value for name, value in zip(MEMORY, found, strict=True) if value}

    def _demand(self, agent: str) -> Amounts:
        """Say what an attempt takes: by the agent's own limits, else by what its attempts took so far."""
        seen = [self._seen[agent]] if agent in self._seen else self._seen.values()
        count = sum(number for number, _ in seen)
        guess = self._first_guess
        if count:  # another agent's attempts tell more than nobody's
            total = _amounts(sum((usage for _, usage in seen), Usage()))
            guess = {name: amount / count for name, amount in total.items()}
        return {**guess, **self._needs.get(agent, {})}


MEMORY = ("limits", "used", "seen", "reached")
"""Keys of what is remembered of a budget, in the run's memory in the store."""


def _given(limits: Limits) -> Amounts:
    return {name: value for name in FIRST_GUESS if (value := getattr(limits, name)) is not None}


def _amounts(usage: Usage) -> Amounts:
    return {"max_tokens": usage.tokens, "max_requests": usage.requests, "max_cost": usage.cost}


def _told(limit: str, amount: float) -> str:
    if limit == "max_cost":
        return f"${amount:,.4f}"
    unit = limit.removeprefix("max_")
    return f"1 {unit.removesuffix('s')}" if round(amount) == 1 else f"{amount:,.0f} {unit}"
