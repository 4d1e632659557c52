"""`Budget`: what a run may use up of models, what it has used, and what is reserved for attempts under way.

Before an attempt of a model starts, what it will probably take is reserved; when it ends, what it took is
settled. A reservation that does not fit is a refusal like any other of the pool, with the scope `budget`: the
task waits for attempts under way to settle. When nothing is under way, the run pauses: only a higher limit
helps.

Nobody knows what an attempt takes before it has ended. So it asks again before each request (`allow`): what
its reservation does not cover is reserved then, or the attempt is put back. Thus limits hold, but for what a
single request takes more of tokens and money than was thought.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, NamedTuple

from allready.agents.usage import Usage
from allready.errors import ConcurrencyLimit, TransientError
from allready.plan.plan import Limits

FIRST_GUESS: Mapping[str, float] = {"max_tokens": 5_000, "max_requests": 1, "max_cost": 0.0}
"""What one request is thought to take before any attempt has ended. Tokens: the context of its dependencies
(some 4,000, see agents.context) and an answer, which the price is for."""
TURNS_WITH_TOOLS = 8
"""Requests that an attempt with tools is first thought to make."""
MEMORY = ("limits", "used", "seen", "least", "reached")
"""Keys of what is remembered of a budget, in the run's memory in the store."""

Amounts = dict[str, float]
"""Name of a limit → an amount in its unit."""


class Need(NamedTuple):
    """What one attempt of an agent may take."""

    limits: Limits = Limits()
    """The agent's own."""
    turns: int = 1
    """Requests that it is first thought to make."""


class Reached(NamedTuple):
    """A limit that stands in the way."""

    name: str
    """`max_tokens`, `max_requests` or `max_cost`."""
    text: str
    """All about it, in a sentence."""
    enough: float
    """With what limit it would go on."""

    @property
    def higher(self) -> tuple[str, str]:
        """Give the option that lets the run go on, and its value."""
        value = f"{self.enough:.4g}" if self.name == "max_cost" else str(ceil(self.enough))
        return f"--{self.name.replace('_', '-')}", value


class Budget:
    """The limits of one run.

    `needs` has the agents that ask models. `memory` is what the budget of an earlier process gave.
    `first_cost` is what one request may cost, in US dollars, before any attempt has ended.
    """

    def __init__(
        self,
        limits: Limits,
        needs: Mapping[str, Need],
        memory: Mapping[str, Any] | None = None,
        *,
        first_cost: float = 0.0,
    ) -> None:
        memory = memory or {}
        self.used = Usage.from_json(memory.get("used", {}))
        """All that was used up, by attempts under way too."""
        self.reached: Reached | None = None
        """What stands in the way, if a reservation was refused with nothing under way."""
        self.refused: Reached | None = None
        """What stood in the way of the last request that was not allowed."""
        self.paused_for = Reached(*memory["reached"]) if "reached" in memory else None
        """What the run was paused for."""
        self._limits = limits.given()
        self._needs = dict(needs)
        self._first_guess: Mapping[str, float] = {**FIRST_GUESS, "max_cost": first_cost}
        self._agents: dict[str, str] = {}
        """Attempt → its agent, from the reservation to the end."""
        self._reserved: dict[str, Amounts] = {}
        """Attempt → what it may still take."""
        self._taken: dict[str, Usage] = {}
        """Attempt → what it took so far."""
        self._seen: dict[str, tuple[int, Usage]] = {
            agent: (count, Usage.from_json(total)) for agent, (count, total) in memory.get("seen", {}).items()
        }
        """Agent → how many attempts of it have completed, and what they took in all."""
        self._least: dict[str, Amounts] = {**memory.get("least", {})}
        """Agent → what attempts of it took that were not let to their end."""

    # --- admission ------------------------------------------------------------------------------------

    @property
    def has_needs(self) -> bool:
        """Whether there is any agent that asks models."""
        return bool(self._needs)

    def fits(self, agent: str | None) -> bool:
        """Say whether an attempt of this agent fits into what is left."""
        return self._obstacle(agent) is None

    def check(self, agent: str | None) -> None:
        """Raise `ConcurrencyLimit` unless an attempt of this agent fits into what is left."""
        reached = self._obstacle(agent)
        if reached is None:
            return
        if not self._reserved:
            self.reached = reached
        raise ConcurrencyLimit(
            reached.text,
            "budget",
            round(_amounts(self.used)[reached.name] + self._others(reached.name)),
            round(self._limits[reached.name]),
        )

    def reserve(self, handle: str, agent: str | None) -> None:
        """Set aside what an attempt will probably take. Call `check` first; planning need not."""
        if agent is not None and (agent in self._needs or agent == handle):
            self._agents[handle] = agent
            self._reserved[handle] = self._demand(agent)
            self._cut_to_room(handle)
            self.reached = None

    def allow(self, handle: str) -> None:
        """Say that an attempt is about to make a request. Raises `TransientError` if there is no room.

        What its reservation does not cover is reserved now; the last that is there it may have in any case.
        """
        reserved = self._reserved.get(handle)
        if reserved is None or not self._limits:
            return
        needed = self._of_request(handle)
        missing = {name: needed[name] - reserved[name] for name in needed if needed[name] > reserved[name]}
        reached = self._missing(missing, self._agents[handle])
        if reached is not None:
            used = _amounts(self.used)
            others = any(self._others(name, handle) for name in self._limits)
            if others or any(used[name] >= limit for name, limit in self._limits.items()):
                self.refused = reached
                raise TransientError(reached.text, 0.0)
        for name, amount in missing.items():
            reserved[name] += amount

    def _cut_to_room(self, handle: str) -> None:
        """Let an attempt reserve no more than is there."""
        reserved, used = self._reserved[handle], _amounts(self.used)
        for name, limit in self._limits.items():
            room = limit - used[name] - self._others(name, handle)
            reserved[name] = max(0.0, min(reserved[name], room))

    # --- books ----------------------------------------------------------------------------------------

    def take(self, handle: str, usage: Usage) -> None:
        """Note what a request of an attempt took. Until its end it keeps what it needs for another one.

        As far as there is room for that: what is not there can't be kept.
        """
        self.used += usage
        self._taken[handle] = self._taken.get(handle, Usage()) + usage
        reserved = self._reserved.get(handle)
        if reserved is None:
            return
        next_one, taken = self._of_request(handle), _amounts(usage)
        all_taken, own = _amounts(self._taken[handle]), self._own(handle)
        for name in reserved:
            least = min(next_one[name], own[name] - all_taken[name] if name in own else next_one[name])
            reserved[name] = max(least, reserved[name] - taken[name])
        self._cut_to_room(handle)

    def settle(self, handle: str, *, completed: bool = False) -> Usage:
        """Give what an attempt took in all: it has ended."""
        self._reserved.pop(handle, None)
        taken = self._taken.pop(handle, Usage())
        agent = self._agents.pop(handle, None)
        if agent is not None and taken:
            if completed:
                count, total = self._seen.get(agent, (0, Usage()))
                self._seen[agent] = (count + 1, total + taken)
            else:
                least = self._least.setdefault(agent, {})
                for name, amount in _amounts(taken).items():
                    least[name] = max(amount, least.get(name, 0.0))
        return taken

    def memory(self) -> dict[str, Any]:
        """Give what a resumed run must know, as JSON values; nothing if there is nothing."""
        seen = {agent: [count, total.to_json()] for agent, (count, total) in self._seen.items()}
        used = self.used.to_json() if self.used else {}
        found = (self._limits, used, seen, self._least, list(self.paused_for or ()))
        return {name: value for name, value in zip(MEMORY, found, strict=True) if value}

    # --- guesses --------------------------------------------------------------------------------------

    def _obstacle(self, agent: str | None) -> Reached | None:
        """Give what stands in the way of an attempt of this agent; None if nothing does."""
        if agent is None or agent not in self._needs or not self._limits:
            return None
        reached = self._missing(self._demand(agent), agent)
        alone = not self._reserved and self._may_try(agent)
        return None if alone else reached

    def _missing(self, more: Amounts, agent: str) -> Reached | None:
        """Give the first limit that leaves no room for `more`; None if all do."""
        used = _amounts(self.used)
        for name, limit in self._limits.items():
            others = self._others(name)
            if name not in more or used[name] + others + more[name] <= limit:
                continue
            text = f"{name}: {_told(name, used[name])} of {_told(name, limit)} used"
            if others:
                text += f", {_told(name, others)} reserved for what is under way"
            text += f", and {agent} needs about {_told(name, more[name])}"
            enough = max(2 * limit, used[name] + others + more[name])
            return Reached(name, f"the run has reached its limit: {text}", enough)
        return None

    def _others(self, name: str, handle: str | None = None) -> float:
        return sum(amounts[name] for key, amounts in self._reserved.items() if key != handle)

    def _may_try(self, agent: str) -> bool:
        """Say whether a first attempt may try with what is left, as nobody knows what it takes."""
        used = _amounts(self.used)
        unknown = not self._seen and agent not in self._least
        guessed = all(getattr(self._needs[agent].limits, name) is None for name in self._limits)
        return unknown and guessed and all(used[name] < limit for name, limit in self._limits.items())

    def _demand(self, agent: str) -> Amounts:
        """Say what an attempt takes: by the agent's own limits, else by what its attempts took so far."""
        need = self._needs.get(agent, Need())
        seen = [self._seen[agent]] if agent in self._seen else list(self._seen.values())
        count = sum(number for number, _ in seen)
        if count:  # another agent's attempts tell more than nobody's
            total = _amounts(sum((usage for _, usage in seen), Usage()))
            guess = {name: amount / count for name, amount in total.items()}
        else:
            guess = {name: amount * need.turns for name, amount in self._first_guess.items()}
        least = self._least.get(agent, {})
        return {name: max(guess[name], least.get(name, 0.0)) for name in guess} | need.limits.given()

    def _own(self, handle: str) -> Amounts:
        """Give the own limits of an attempt's agent."""
        return self._needs.get(self._agents[handle], Need()).limits.given()

    def _of_request(self, handle: str) -> Amounts:
        """Say what the next request of an attempt takes: as those before it, else no more than all of it."""
        taken = self._taken.get(handle, Usage())
        if taken.requests:
            return {name: amount / taken.requests for name, amount in _amounts(taken).items()}
        demand = self._demand(self._agents[handle])
        return {name: min(amount, demand[name]) for name, amount in self._first_guess.items()}


def remembered(memory: Mapping[str, Any]) -> dict[str, Any]:
    """Give what of a run's memory in the store is its budget's."""
    return {name: memory[name] for name in MEMORY if name in memory}


def _amounts(usage: Usage) -> Amounts:
    return {"max_tokens": usage.tokens, "max_requests": usage.requests, "max_cost": usage.cost}


def _told(limit: str, amount: float) -> str:
    if limit == "max_cost":
        return f"${amount:,.4g}"
    unit = limit.removeprefix("max_")
    return f"1 {unit.removesuffix('s')}" if round(amount) == 1 else f"{amount:,.0f} {unit}"
