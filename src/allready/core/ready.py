"""`ReadyQueue`: the ready tasks in their order, grouped by what would refuse them together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from allready.core.graph import TaskNode, TaskSpec
from allready.core.states import READY
from allready.errors import ConcurrencyLimit

PATIENCE = 8
"""Tasks that may start and take a resource while others wait for more of it; then those are offered also if
they would meet a refusal, so that the pool knows of a big demand that small ones would pass by for ever."""
FEW = 64
"""Stale entries that are not worth clearing away."""

Entry = tuple[int, float, int, TaskNode]
"""In a bucket's heap: -priority, -remaining path, plan order, task. The plan order is unique."""


class Refusal(NamedTuple):
    """The last refusal a bucket met, until something of it starts."""

    reason: str
    scope: str
    active: int
    max: int
    since: float


class Bucket:
    """Ready tasks that would meet the same refusals: same agent, provider and demand."""

    __slots__ = (
        "agent",
        "blocked",
        "heap",
        "inline",
        "moves",
        "passed_by",
        "provider",
        "refusal",
        "resources",
    )

    def __init__(
        self, *, inline: bool, agent: str | None, provider: str | None, resources: tuple[tuple[str, int], ...]
    ) -> None:
        self.inline = inline
        self.agent = agent
        self.provider = provider
        self.resources = dict(resources)
        self.heap: list[Entry] = []
        self.moves = 0
        """Entries that became stale because their task has another place, since such were cleared away."""
        self.passed_by = 0
        """Tasks that took a resource that is wanted here, since one from here started."""
        self.blocked = 0
        """Number of the batch in which it was refused."""
        self.refusal: Refusal | None = None

    def would_meet(self, limit: ConcurrencyLimit, refused: Bucket) -> bool:
        """Whether the tasks here would meet the refusal that a task of `refused` met."""
        if self is refused:
            return True
        kind, _, name = limit.scope.partition(":")
        if kind == "agent":
            return self.agent == name
        if kind == "provider":
            return self.provider == name
        if kind == "resource":
            return self.resources.get(name, 0) > max(0, limit.max - limit.active)
        return False


class ReadyQueue:
    """Hands out ready tasks, one at a time, in order; after a refusal leaves out those behind the same scope.

    A task that stopped being ready while it was queued is passed over (`TaskNode.queued` is false then), and
    so is the old place of one whose path has changed, so that nothing has to be searched for in a heap.
    """

    def __init__(self, route: Callable[[TaskSpec], str | None] | None) -> None:
        self._route = route
        self._buckets: dict[tuple[str | None, str | None, tuple[tuple[str, int], ...]] | None, Bucket] = {}
        self.patience: float = math.inf
        """`PATIENCE`, or none for recordings from before there was any."""
        self._batch = 0
        self._pool_refused_in = 0
        """Number of the batch in which the whole pool refused."""

    def put(self, node: TaskNode) -> None:
        """Queue a ready task."""
        bucket = node.bucket
        if not isinstance(bucket, Bucket):
            bucket = self._find_bucket(node)
        node.queued = True
        heappush(bucket.heap, (-node.spec.priority, -node.remaining, node.index, node))

    def move(self, node: TaskNode) -> None:
        """Give a queued task the place that its remaining path, which has changed, calls for."""
        self.put(node)
        bucket = node.bucket
        assert isinstance(bucket, Bucket)
        bucket.moves += 1
        if bucket.moves > FEW + len(bucket.heap) // 2:
            bucket.heap = list({entry[2]: entry for entry in bucket.heap if _is_current(entry)}.values())
            heapify(bucket.heap)
            bucket.moves = 0

    def queued(self) -> set[int]:
        """Give the plan order of all tasks that stand where they belong; for the invariants."""
        buckets = self._buckets.values()
        return {entry[2] for bucket in buckets for entry in bucket.heap if _is_current(entry)}

    def _find_bucket(self, node: TaskNode) -> Bucket:
        spec = node.spec
        inline = spec.inline
        if node.agent is None and not inline and self._route is not None:
            node.agent = self._route(spec)
            inline = node.agent is None
        # what runs inline needs nothing of the pool: there is one limit for all of it
        key = None if inline else (node.agent, spec.provider, spec.resources)
        bucket = self._buckets.get(key)
        if bucket is None:
            agent, provider, resources = key or (None, None, ())
            bucket = self._buckets[key] = Bucket(
                inline=inline, agent=agent, provider=provider, resources=resources
            )
        node.bucket = bucket
        return bucket

    def new_batch(self) -> None:
        """Forget which scopes refused: a new batch asks them all again."""
        self._batch += 1

    def take(self) -> Iterator[tuple[TaskNode, Bucket]]:
        """Give tasks in order until the queue is empty or all that is left stands behind a refusal.

        Tasks that are put meanwhile are given too. The cost is that of the tasks given, plus the number of
        buckets, not of the tasks that wait.
        """
        while True:
            heads = [(bucket.heap[0], bucket) for bucket in self._buckets.values() if self._is_open(bucket)]
            if not heads:
                return
            heapify(heads)
            while heads:
                bucket = heappop(heads)[1]
                if not self._is_open(bucket):
                    continue
                _, length, _, node = heappop(bucket.heap)
                if node.queued and node.state is READY and length == -node.remaining:
                    node.queued = False
                    yield node, bucket
                if self._is_open(bucket):
                    heappush(heads, (bucket.heap[0], bucket))

    def _is_open(self, bucket: Bucket) -> bool:
        if not bucket.heap or bucket.blocked == self._batch:
            return False
        return bucket.inline or self._pool_refused_in != self._batch

    def refuse(self, node: TaskNode, limit: ConcurrencyLimit, now: float) -> None:
        """Put a refused task back, and leave out for this batch all that would meet the same refusal."""
        if not node.queued:
            self.put(node)
        refused = node.bucket
        assert isinstance(refused, Bucket)
        standing = refused.refusal
        since = standing.since if standing is not None and standing.scope == limit.scope else now
        refusal = Refusal(limit.reason, limit.scope, limit.active, limit.max, since)
        if limit.scope == "pool" and not refused.inline:
            self._pool_refused_in = self._batch
        # the whole pool is marked in one place; marking each bucket would cost their number in every tick
        others = self._buckets.values() if ":" in limit.scope else (refused,)
        for bucket in others:
            if bucket.would_meet(limit, refused) and not self._may_ask(bucket, refused, limit):
                bucket.blocked = self._batch
                bucket.refusal = refusal

    def _may_ask(self, bucket: Bucket, refused: Bucket, limit: ConcurrencyLimit) -> bool:
        """Whether a bucket that would meet the refusal of another has been passed by often enough."""
        of_resource = limit.scope.startswith("resource:")
        return bucket is not refused and of_resource and bucket.passed_by > self.patience

    def started(self, node: TaskNode) -> None:
        """Note that a task of this bucket was admitted: its last refusal is no longer true."""
        bucket = node.bucket
        if not isinstance(bucket, Bucket):
            bucket = self._find_bucket(node)
        bucket.refusal = None
        if bucket.resources:
            self._pass_by(bucket)

    def _pass_by(self, bucket: Bucket) -> None:
        """Note that others wait for the same resources. Not in `refuse`: idle ticks are not recorded."""
        bucket.passed_by = 0
        for other in self._buckets.values():
            if other is not bucket and other.heap and not bucket.resources.keys().isdisjoint(other.resources):
                other.passed_by += 1

    def refusal(self, node: TaskNode) -> Refusal | None:
        """Give the refusal behind which a ready task waits; None if nothing stands in its way."""
        if not isinstance(node.bucket, Bucket):
            return None
        if node.bucket.refusal is not None or node.bucket.inline:
            return node.bucket.refusal
        pool = [b.refusal for b in self._buckets.values() if b.refusal and b.refusal.scope == "pool"]
        return min(pool, key=lambda refusal: refusal.since, default=None)


def _is_current(entry: Entry) -> bool:
    """Say whether a task still waits at this place."""
    node = entry[3]
    return node.queued and node.state is READY and entry[1] == -node.remaining
