"""Delays and their jitter: pure functions of a seed, so that a replay decides the same."""

from __future__ import annotations

BACKOFF_FIRST = 0.25
"""Seconds until the pool is asked again after the first batch that started nothing."""
BACKOFF_MOST = 5.0
"""Seconds; it doubles up to here. A freed place wakes the loop earlier, so this is only the fallback."""
BACKOFF_JITTER = 0.15
"""Share of the delay by which it is shortened or lengthened: many runs on one pool must not ask in step."""

RETRY_FIRST = 1.0
"""Seconds: the first retry comes after a random part of this."""
RETRY_MOST = 60.0
"""Seconds: the random part is of at most this."""

DEFER_FIRST = 0.5
"""Seconds after a rate limit or a lost worker, if the other side did not say how long to wait."""
DEFER_MOST = 60.0
LONGEST_RETRY_AFTER = 7 * 24 * 3600.0
"""Seconds; a wish for more than a week, for less than nothing, or for no number, is none."""

_MASK = (1 << 64) - 1


def uniform(seed: int, *key: int) -> float:
    """Give a number in [0, 1) that depends on nothing but the seed and the key.

    Stateless on purpose: a scheduler restored from the store draws the same numbers as one that never
    stopped. The mixing is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
    OOPSLA 2014).
    """
    state = seed & _MASK
    for part in (*key, 0):
        state = (state + (part & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return (state >> 11) / (1 << 53)


def _doubling(first: float, most: float, times: int) -> float:
    # 2.0 ** 64 is beyond every limit here, and larger exponents would overflow
    return min(most, first * 2.0 ** min(times, 64))


def batch_backoff(failures: int, seed: int) -> float:
    """Give seconds until the next try after `failures` (≥ 1) batches in a row that started nothing."""
    jitter = 1 + BACKOFF_JITTER * (2 * uniform(seed, failures) - 1)
    return _doubling(BACKOFF_FIRST, BACKOFF_MOST, failures - 1) * jitter


def retry_delay(retry: int, seed: int, index: int) -> float:
    """Give seconds before retry number `retry` (≥ 1) of the task at `index`, with full jitter.

    Full jitter (a random part of the whole delay) spreads retries best: Brooker, Exponential Backoff and
    Jitter, AWS Architecture Blog, 2015.
    """
    return _doubling(RETRY_FIRST, RETRY_MOST, retry - 1) * uniform(seed, index, retry)


def defer_delay(deferrals: int, retry_after: float | None, seed: int, index: int) -> float:
    """Give seconds before a task is offered again whose attempt ended without a verdict (`deferrals` ≥ 1).

    What the other side asked for is a minimum; the random part on top keeps clients from coming in step.
    """
    random = uniform(seed, index, deferrals, 1)
    if retry_after is not None and 0 <= retry_after <= LONGEST_RETRY_AFTER:  # false for NaN, too
        return retry_after * (1 + 0.1 * random)
    return _doubling(DEFER_FIRST, DEFER_MOST, deferrals - 1) * (0.5 + 0.5 * random)
