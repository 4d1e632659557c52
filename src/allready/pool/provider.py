"""`ProviderGate`: how much of one provider of models this process uses; narrower after each refusal of it.

Three things keep a request back: limits that the user knows (requests, tokens a minute, sub-agents at once),
a pause that the provider asked for, and what its refusals (429, overload) have taught:

* the *width*, how many sub-agents may use it at once: cut to four fifths of those that were not refused;
  each answer widens it, by one up to what was taken before, then by one in some rounds of answers (additive
  increase, multiplicative decrease, as TCP does it: Chiu, Jain, Analysis of the increase and decrease
  algorithms for congestion avoidance, Computer Networks and ISDN Systems 17, 1989);
* the *pace*, requests a second: what was let through between two refusals is what the provider allows, or
  within the last minute, if that is more. It grows slowly until it is refused again. At first, too, requests
  are not sent all at once when they are very many: what a refusal costs is what is under way when it comes.

Several requests that were under way when the first of them was refused are one refusal. What was learned is
forgotten ten minutes after the last one.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from allready.core.policy import LONGEST_RETRY_AFTER
from allready.errors import ConcurrencyLimit

MINUTE = 60.5
"""Seconds: a provider's minute, and a little for requests that were longer on their way than later ones."""
NARROWER = 0.8
"""Share of the sub-agents that the provider has taken, to which a refusal cuts the width."""
WIDER, WIDER_SHARE = 0.25, 0.05
"""What the width grows by in a round of answers, beyond what the provider had taken; at least that share."""
START = 20.0
"""Requests that may be sent at once, and the pace then, to a provider that never refused: it doubles each
second."""
MOST_GROWN = 50.0
"""Logarithm of how much a pace is thought to have grown at most: long ago it is none any more."""
UNLIMITED = 1000.0
"""Requests a second: a pace that grew beyond is none."""
FIRST_GROWTH = math.log(2) / 2
"""Growth of the pace per second after the first refusal, when it may be far too low: it doubles in 2 s."""
OVERSHOT = 0.7
"""Share of the pace that had grown so until it was refused: at least that much is tried next."""
GROWTH, LEAST_GROWTH = 0.01, 0.001
"""Growth of the pace per second after the second refusal; it halves with each further one that agrees."""
AGREES = 0.75
"""Two paces agree if one is at least that share of the other."""
MARGIN = 0.97
"""Share of what was let through between two refusals at which the pace begins anew."""
ENOUGH = 10
"""Requests that were let through between two refusals from which the pace can be told."""
SHORTEST_WINDOW = 0.1
"""Seconds; what a provider names, or lets pass between two refusals, is taken to be no less."""
SHORTEST_PERIOD = 0.5
"""Seconds between two refusals from which the pace can be told."""
BURST = 0.1
"""Seconds of the pace that may be made up for at once."""
PAUSE_FIRST, PAUSE_MOST = 1.0, 30.0
"""Seconds of the pause after a 429 that names none; it doubles while the provider answers nothing."""
FORGET = 600.0
"""Seconds after the last refusal until the provider counts as one that never refused."""


class ProviderLimits(NamedTuple):
    """What a provider is known to allow; None: no limit is known.

    Requests and tokens are those of any sixty seconds, tokens read and written together.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrent: int | None = None


class ProviderGate:
    """What of one provider is in use, and whether there is room. Times are seconds on the monotonic clock.

    May be used from several threads: all pools of a process share it.
    """

    def __init__(self, name: str, limits: ProviderLimits | None = None) -> None:
        self.name = name
        self.limits = limits or ProviderLimits()
        self.active = 0
        """Sub-agents that use it."""
        self.width = math.inf
        """How many sub-agents may use it; at least one."""
        self.waiting = 0
        """Sub-agents that have their place, and wait to make a further request: they go before new ones."""
        self._asking = 0
        """Requests under way."""
        self.refusals = 0
        """How often it refused a request."""
        self._threshold: float = math.inf
        """Up to here the width grows by one with each answer."""
        self._most = self._taken = 0
        """Most at once since the last refusal that counts; and before it, without those that it refused."""
        self._paused_until = -math.inf
        self._dry_pauses = 0
        """Pauses without an answer since."""
        self._sent: deque[float] = deque()
        """Times of the requests of the last minute that were not refused."""
        self._spent: deque[tuple[float, int]] = deque()
        """Times and tokens of the last minute's answers."""
        self._tokens = 0
        """Sum of these."""
        self._mean_tokens = 0.0
        """Of an answer, with more weight for the latest."""
        self._narrowed_at = -math.inf
        """When the last refusal came that counts, of any kind."""
        self._refused_at: float | None = None
        """When the last came that tells of the pace."""
        self._count = 0
        """Requests since then that were not refused."""
        self._period: tuple[float, int] | None = None
        """How long it was from the refusal before to that one, and how many requests were let through."""
        self._window: float | None = None
        """At the first refusal: seconds from the first request until the provider takes more."""
        self._least = 0.0
        """The pace is not taken to be less than this."""
        self._pace: float | None = None
        """At `_grows_from`; None: there is none."""
        self._growth = 0.0
        self._grows_from = 0.0
        self._credit = 0.0
        """Requests that the pace allows at `_credit_at`."""
        self._credit_at = 0.0
        self._is_new = True
        """Whether nothing was asked of it yet."""
        self._lock = threading.Lock()
        self._waiting: dict[object, Callable[[], None]] = {}

    # --- admission ------------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Raise `ConcurrencyLimit` unless one more sub-agent may use the provider now."""
        with self._lock:
            most = self.limits.max_concurrent
            if most is not None and self.active >= most:
                raise self._limit("is in use", self.active, most)
            if self.waiting:
                raise self._limit("is asked first by those that have begun", self.active, self.active)
            self._forget(now)
            if self.width < math.inf and self.active >= int(self.width):
                raise self._limit(f"refused more than {self.active} at once", self.active, int(self.width))
            self._check_request(now)

    def take(self, now: float, *, asks: bool = True) -> None:
        """Note that a sub-agent was admitted, and (if it `asks`) will make a request."""
        with self._lock:
            self.active += 1
            self._most = max(self._most, self.active)
            if asks:
                self._note_request(now)

    def take_request(self, now: float) -> None:
        """Note a further request of a sub-agent. Raises `ConcurrencyLimit` if it has to wait."""
        with self._lock:
            self._forget(now)
            self._check_request(now)
            self._note_request(now)

    def opens_at(self, now: float) -> float | None:
        """Say when time alone will let a request through that waits now; None if only an end can."""
        with self._lock:
            times = [now]
            if self._paused_until > now:
                times.append(self._paused_until)
            if self._pace is not None:
                times.append(self._paced_at(now))
            requests, tokens = self.limits.requests_per_minute, self.limits.tokens_per_minute
            if requests is not None and len(self._sent) >= requests:
                times.append(self._sent[-requests] + MINUTE)
            if tokens is not None and self._spent and not self._fits(tokens):
                times.append(self._spent[0][0] + MINUTE)
            opens = max(times)
            return opens if opens > now else None

    def _check_request(self, now: float) -> None:
        if now < self._paused_until:
            raise self._limit(f"asked to wait, {math.ceil(self._paused_until - now)} s more", self.active, 0)
        self._forget_minute(now)
        requests, tokens = self.limits.requests_per_minute, self.limits.tokens_per_minute
        if requests is not None and len(self._sent) >= requests:
            raise self._limit(f"takes {requests} requests a minute", len(self._sent), requests)
        if tokens is not None and not self._fits(tokens):
            raise self._limit(f"takes {tokens:,} tokens a minute", self._tokens, tokens)
        if self._pace is not None:
            self._refill(now)
            if self._credit < 1:
                rate = self._pace_at(now) * 60
                raise self._limit(f"takes about {rate:.0f} requests a minute", len(self._sent), round(rate))

    def refused_since(self, at: float) -> bool:
        """Say whether the provider refused a request since then."""
        return self._narrowed_at >= at

    def _note_request(self, now: float) -> None:
        if self._is_new:
            self._is_new = False
            self._pace = self._credit = START
            self._growth = math.log(2)
            self._grows_from = self._credit_at = now
        self._forget_minute(now)
        self._sent.append(now)
        self._asking += 1
        self._count += 1
        if self._pace is not None:
            self._refill(now)
            self._credit -= 1

    def _fits(self, tokens: int) -> bool:
        """Whether one more request fits, if it and those under way take as many tokens as others did."""
        if not self._tokens and not self._asking:
            return True
        return self._tokens + self._mean_tokens * (self._asking + 1) <= tokens

    def _limit(self, what: str, active: int, most: int) -> ConcurrencyLimit:
        return ConcurrencyLimit(f"{self.name} {what}", f"provider:{self.name}", active, most)

    # --- what became of requests ----------------------------------------------------------------------

    def answered(self, now: float, tokens: int = 0) -> None:
        """Note that a request was answered, and took so many tokens."""
        with self._lock:
            self._asking = max(0, self._asking - 1)
            self._dry_pauses = 0
            if self.width < math.inf:
                self.width += 1 if self.width < self._threshold else max(WIDER / self.width, WIDER_SHARE)
            if tokens:
                self._spent.append((now, tokens))
                self._tokens += tokens
                mean = self._mean_tokens
                self._mean_tokens = tokens if not mean else mean + (tokens - mean) / 8
        self._tell()

    def give_back(self, *, asking: bool = False) -> None:
        """Note that a sub-agent uses it no more; `asking`: nothing became of its last request."""
        with self._lock:
            self.active -= 1
            self._asking = max(0, self._asking - asking)
        self._tell()

    def wait(self, waits: bool) -> None:
        """Note that a sub-agent waits to make a further request, or does so no more."""
        with self._lock:
            self.waiting += 1 if waits else -1
        if not waits:
            self._tell()

    def refused(
        self, now: float, sent_at: float, retry_after: float | None = None, *, overloaded: bool = False
    ) -> None:
        """Note that the provider refused a request: it, or all in a minute, are more than it takes.

        Called while the sub-agent that made it still counts as active. `retry_after` is in seconds, as the
        provider told it, or None. One that is `overloaded` and names no time is asked by fewer, and that is
        all: it is not about how much was asked.
        """
        if retry_after is not None and not 0 <= retry_after <= LONGEST_RETRY_AFTER:  # true for NaN, too
            retry_after = None
        with self._lock:
            self.refusals += 1
            self._asking = max(0, self._asking - 1)
            if sent_at >= self._narrowed_at:
                self._narrowed_at = now
                self._taken, self._most = max(self._most, self._taken // 2), 0
            self._taken = max(0, self._taken - 1)
            only_narrower = overloaded and retry_after is None
            if not only_narrower:
                if self._refused_at is None or sent_at >= self._refused_at:
                    self._begin_refusal(now, retry_after)
                else:
                    if self._period is not None:
                        self._period = (self._period[0], max(0, self._period[1] - 1))
                    self._paused_until = max(self._paused_until, now + (retry_after or 0.0))
                if sent_at in self._sent:
                    self._sent.remove(sent_at)
                self._set_pace(now)
            if only_narrower or self._period is not None:
                self.width, self._threshold = max(1.0, NARROWER * self._taken), self._taken

    def _begin_refusal(self, now: float, retry_after: float | None) -> None:
        before, ramp = self._refused_at, self._growth == FIRST_GROWTH
        let_through = max(0, self._count - 1)
        self._refused_at = now
        self._count = 0
        if before is None:
            self._period, self._least, self._growth = None, 0.0, FIRST_GROWTH
            if retry_after:
                self._window = (now - self._sent[0] if self._sent else 0.0) + retry_after
        elif let_through:
            self._window = None
            lasted = max(now - before, SHORTEST_WINDOW)
            if let_through < ENOUGH and self._period is not None:  # too few to tell: both periods together
                lasted, let_through = lasted + self._period[0], let_through + self._period[1]
            self._period = (lasted, let_through)
            self._least = OVERSHOT * self._pace_at(now) if ramp and self._pace is not None else 0.0
            known, told = self._pace_at(now) if self._pace is not None else 0.0, let_through / lasted
            agrees = not ramp and AGREES * told <= known <= told / AGREES
            self._growth = max(LEAST_GROWTH, self._growth / 2) if agrees else GROWTH
        else:  # it is still closed: that teaches nothing new
            self._period, self._least = None, self._pace or 0.0
        if retry_after is None:
            retry_after = min(PAUSE_MOST, PAUSE_FIRST * 2.0 ** min(self._dry_pauses, 16))
        self._dry_pauses += 1
        self._paused_until = max(self._paused_until, now + retry_after)

    def _set_pace(self, now: float) -> None:
        self._forget_minute(now)
        pace = max(self._least, 1 / 60, len(self._sent) / 60)
        if self._window is not None:  # at least one: it may come again after that time
            pace = max(pace, max(1, len(self._sent)) / max(self._window, SHORTEST_WINDOW))
        if self._period is not None and self._period[0] >= SHORTEST_PERIOD:
            pace = max(pace, MARGIN * self._period[1] / self._period[0])
        self._pace = pace
        self._grows_from = self._credit_at = self._paused_until
        self._credit = 1.0  # the provider said when to come again

    def _forget(self, now: float) -> None:
        if now > max(self._narrowed_at, self._paused_until) + FORGET and self.width < math.inf:
            self.width = self._threshold = math.inf
        if self._refused_at is not None and now > max(self._refused_at, self._paused_until) + FORGET:
            self._refused_at = self._pace = None
            self._dry_pauses = 0
        elif self._pace is not None and self._pace_at(now) > UNLIMITED:
            self._pace = None

    def _forget_minute(self, now: float) -> None:
        while self._sent and self._sent[0] + MINUTE <= now:  # as `opens_at` has it, to the last bit
            self._sent.popleft()
        while self._spent and self._spent[0][0] + MINUTE <= now:
            self._tokens -= self._spent.popleft()[1]

    # --- the pace -------------------------------------------------------------------------------------

    def _pace_at(self, now: float) -> float:
        assert self._pace is not None
        grown = self._growth * max(0.0, now - self._grows_from)
        return self._pace * math.exp(min(grown, MOST_GROWN))

    def _refill(self, now: float) -> None:
        if now <= self._credit_at:
            return
        rate = self._pace_at(now)
        self._credit += (rate - self._pace_at(self._credit_at)) / self._growth
        self._credit = min(self._credit, max(1.0, rate * BURST))
        self._credit_at = now

    def _paced_at(self, now: float) -> float:
        """Say when the pace allows one more request: when the integral of the pace makes up for it."""
        missing = 1 - self._credit
        if missing <= 0:
            return now
        rate = self._pace_at(self._credit_at)
        # a little later: rounding must not leave the credit a hair short of one
        return self._credit_at + math.log1p(missing * self._growth / rate) / self._growth + 1e-6

    # --- whom to tell ---------------------------------------------------------------------------------

    def tell_when_free(self, who: object, wake: Callable[[], None]) -> None:
        """Call `wake` once, from any thread, when there may be room again because of an end or an answer."""
        self._waiting[who] = wake

    def _tell(self) -> None:
        while self._waiting:
            try:
                _, wake = self._waiting.popitem()
            except KeyError:  # another thread was faster
                return
            wake()


class ProviderGates:
    """The gates of all providers, by name; made when they are first asked for."""

    def __init__(self) -> None:
        self._gates: dict[str, ProviderGate] = {}

    def __getitem__(self, name: str) -> ProviderGate:
        return self._gates.get(name) or self._gates.setdefault(name, ProviderGate(name))


of_this_process = ProviderGates()
"""What all pools of this process share unless they are given others: a provider counts them together."""


def limit_provider(name: str, limits: ProviderLimits) -> None:
    """Say what a provider of models is known to allow: all runs of this process keep to it from now on.

    `name` is what stands before the colon in the names of its models; the kinds of OpenAI are one.
    """
    of_this_process[name].limits = limits
