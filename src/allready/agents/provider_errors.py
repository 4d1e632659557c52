"""What providers of models, and the libraries that talk to them, raise: as errors of tasks.

* `TransientError`: a rate limit, an overload, a server's own trouble, a connection that can't be made or
  broke off, a timeout. The task is put back and tried later; it costs no retry.
* `FatalError`: requests of others will be refused as well (credentials, quota, an unknown model, an invalid
  request, an address that leads elsewhere). The run ends early; the message says what to do.
* `PermanentError`: this one will be refused again (a full context window and the like).
* `TaskError`: the model answered, but not with what can be used; or something else did, in its place (a page
  of a proxy). Another try may bring it.

pydantic-ai sorts the errors of the providers it knows into categories. Exceptions that come through as the
libraries raised them are known by the names of their classes, so that nothing has to be imported for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from allready.agents.models import OPENAI_NAMES, keys_of, split_name
from allready.agents.secrets import Redactor, secret_values
from allready.errors import (
    FatalError,
    PermanentError,
    ProviderBusy,
    TaskError,
    TransientError,
    Unreachable,
    text_of,
)

MAX_SAID = 300
"""Characters of what the other side said that are shown."""
DOCTOR = "Check it with: allready doctor"
RATE_LIMITED = 429
_BUSY = frozenset({RATE_LIMITED, 503, 529})
"""Statuses that say that it was too much; 529 is Anthropic's."""
_FOR_NOW = frozenset({408, 409, 425, 429, 499})
"""Statuses below 500 that another try can end otherwise."""
_NEVER = frozenset({501, 505})
"""Statuses from 500 that another try can't."""
_BROKEN = frozenset(
    {"ModelConnectionError", "APIConnectionError", "TransportError", "ConnectionError", "TimeoutError"}
)
"""Classes that mean a connection: pydantic-ai's, those of openai and anthropic, httpx's and Python's own."""
_SLOW = frozenset({"APITimeoutError", "TimeoutException", "TimeoutError", "ModelTimeoutError"})
_UNREACHED = frozenset({"ConnectError", "ConnectionRefusedError", "gaierror"})
_NOT_TO_BE_REACHED = frozenset({"UnsupportedProtocol", "InvalidURL", "LocalProtocolError"})
"""Classes that mean an address or header that can't be right."""
_NO_TRUST = "CERTIFICATE_VERIFY_FAILED"
_NO_ANSWER = (
    "Streamed response ended without content or tool calls",
    "Invalid response from ",
    "Expected a JSON response",
    "Failed to decode response as JSON",
)
"""How the libraries begin when what came, with a status of success, is not of a model's API at all."""
_STUMBLES = (AttributeError, TypeError, LookupError, ValueError)
"""What the libraries raise when they meet JSON values that are not those of the API."""
_LIBRARIES = frozenset(
    {"pydantic_ai", "openai", "anthropic", "google", "groq", "mistralai", "cohere", "huggingface_hub"}
)
"""Packages that read answers."""
_TOO_LARGE = "request too large"
"""How OpenAI begins a 429 for a request that is larger than all that its limit allows in a minute."""


def task_error(error: Exception, what: str) -> TaskError:
    """Give the task error that an exception from a request to a model stands for; a `TaskError` as it is.

    `what` begins the message: the model's full name, so that the advice can name its key, or other words.
    """
    if isinstance(error, TaskError):
        return error
    found = _classified(error, what)
    found.__cause__ = error
    return found


def _classified(error: Exception, what: str) -> TaskError:
    if isinstance(error, ExceptionGroup):
        return _of_group(error, what)
    for sort in (_of_other_answers, _of_pydantic_ai, _of_status, _of_connection):
        found = sort(error, what)
        if found is not None:
            return found
    return TaskError(_text(what, f"{type(error).__name__}: {text_of(error)}"))


def _of_group(group: ExceptionGroup[Any], what: str) -> TaskError:
    """Judge several at once, as when every model of a fallback chain failed: the most hopeful one counts."""
    errors = [task_error(error, what) for error in group.exceptions]
    waits = [error for error in errors if isinstance(error, TransientError)]
    if waits:
        known = [error.retry_after for error in waits if error.retry_after is not None]
        return TransientError(text_of(waits[0]), min(known, default=None))
    hopeful = [error for error in errors if not isinstance(error, PermanentError)]
    first = (hopeful or errors)[0]
    return type(first)(text_of(first))


# --- answers that are not of a model's API ----------------------------------------------------------------


def _of_other_answers(error: Exception, what: str) -> TaskError | None:
    """Judge what comes from a wrong address, or from something in between: redirects, pages, other JSON."""
    links = list(_chain(error)) if "ModelAPIError" in _names(error) else [error]
    status = next(filter(None, map(_status, links)), None)
    if status is not None and 300 <= status < 400:
        to = next(filter(None, map(_redirected_to, _chain(error))), "")
        said = f"the server sends the request elsewhere ({status}){to}"
        return FatalError(_text(what, said, f"is the server's address right? {DOCTOR}"))
    said = str(getattr(error, "message", ""))
    if status is not None and 201 <= status < 300:  # errors within a stream are told with a 200, too
        found = f"status {status}"
    elif said.startswith(_NO_ANSWER):
        found = re.split("[,:] ", said)[0]
    elif isinstance(error, _STUMBLES) and _raised_in(error) in _LIBRARIES:
        found = f"{type(error).__name__}: {text_of(error)}"
    else:
        return None
    kind = "an OpenAI-compatible server" if split_name(what)[0] in OPENAI_NAMES else "the model's API"
    advice = f"is the server's address right, and nothing in between, as a proxy or a login? {DOCTOR}"
    return TaskError(_text(what, f"this does not look like the answer of {kind} ({found})", advice))


def _redirected_to(error: BaseException) -> str | None:
    """Give ` to URL` if the exception still knows where; without the query, which may hold anything."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        url = urlsplit(headers["location"]) if headers is not None else None
    except (KeyError, TypeError, ValueError):
        return None
    return None if url is None else f" to {url._replace(query='', fragment='').geturl()}"


def _raised_in(error: Exception) -> str | None:
    """Give the package whose code raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return None
    return str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


# --- sorted by pydantic-ai --------------------------------------------------------------------------------


def _of_pydantic_ai(error: Exception, what: str) -> TaskError | None:
    from pydantic_ai import exceptions

    if isinstance(error, exceptions.ModelAPIError):
        return _of_api(error, what)
    if isinstance(error, exceptions.UsageLimitExceeded):
        said = text_of(error).partition(" Consider raising the limit")[0]
        return PermanentError(_text(what, said, "raise the limit"))
    if isinstance(error, exceptions.ContentFilterError):
        advice = "ask in other words, or use another model"
        return TaskError(_text(what, f"held back by the provider's content filter: {error.message}", advice))
    if isinstance(error, exceptions.OutputTokenLimitExceeded):
        advice = "ask for less, or use a model with a larger limit"
        return PermanentError(_text(what, f"its limit of output was reached: {error.message}", advice))
    if isinstance(error, exceptions.UnexpectedModelBehavior):
        reason = f" ({text_of(error.__cause__)})" if error.__cause__ is not None else ""
        return TaskError(_text(what, f"{error.message}{reason}"))
    if isinstance(error, exceptions.UserError):
        return PermanentError(_text(what, error.message))
    return None


def _of_api(error: Any, what: str) -> TaskError | None:
    from pydantic_ai import exceptions

    said, after = _said(error), error.retry_after
    match error:
        case exceptions.ModelRateLimitError() if said.lower().startswith(_TOO_LARGE):
            return PermanentError(_text(what, said, "give the agent less to read, or use another model"))
        case exceptions.ModelRateLimitError():
            return ProviderBusy(_text(what, f"rate limit: {said}"), after)
        case exceptions.ModelQuotaExceededError():
            advice = "top up the account, or use another model"
            return FatalError(_text(what, f"the quota is used up: {said}", advice))
        case exceptions.ModelOverloadedError():
            return ProviderBusy(_text(what, f"overloaded: {said}"), after, overloaded=True)
        case exceptions.ModelUnavailableError():
            return ProviderBusy(_text(what, f"unavailable: {said}"), after, overloaded=True)
        case exceptions.ModelServerError() if _status(error) not in _NEVER:
            return TransientError(_text(what, f"the provider has trouble: {said}"), after)
        case exceptions.ModelContextWindowExceededError():
            advice = "give the agent less to read, or use a model with a larger window"
            return PermanentError(_text(what, f"the context window is full: {said}", advice))
        case exceptions.ModelRequestTimeout():
            return TransientError(_text(what, f"no answer in time: {said}"), after)
        case exceptions.ModelConnectionError():
            return _of_connection(error, what)
        case exceptions.ModelAuthenticationError():
            return _fatal(_refused(error, what, 401))
        case exceptions.ModelNotFoundError():
            return _fatal(_refused(error, what, 404))
        case exceptions.ModelRequestRejectedError():
            return _fatal(_refused(error, what, 400))
    return _of_status(error, what)


# --- by status, and by what became of the connection ------------------------------------------------------


def _of_status(error: Exception, what: str) -> TaskError | None:
    status = _status(error)
    if status is None or not 400 <= status < 600:
        return None
    if status in _FOR_NOW or (status >= 500 and status not in _NEVER):
        text, after = _text(what, f"not now ({status}): {_said(error)}"), _retry_after(error)
        if status in _BUSY:
            return ProviderBusy(text, after, overloaded=status != RATE_LIMITED)
        return TransientError(text, after)
    return _refused(error, what, status)


def _fatal(error: PermanentError) -> FatalError:
    """Say that every other task that asks this model will meet the same, as far as one can tell."""
    return FatalError(text_of(error))


def _refused(error: Any, what: str, kind: int) -> PermanentError:
    """Give the error for a request that is refused for good; `kind`: the status that it amounts to.

    Google, for example, says that a key is wrong with a 400, and within a stream there is no status.
    """
    said, status = _said(error), _status(error)
    number = f" ({status})" if status is not None else ""
    if kind in (401, 403):
        problem, advice = f"access denied{number}: {said}", f"{_key_advice(what)} {DOCTOR}"
    elif kind == 404:
        similar = getattr(error, "suggested_model_id", None)
        hint = f"did you mean {similar}?" if similar else _name_advice(what)
        problem, advice = f"not found: {said}", f"{hint} {DOCTOR}"
    elif kind == 402:
        problem, advice = f"payment is needed: {said}", "top up the account"
    elif kind == 413:
        problem, advice = f"the request is too large: {said}", "give the agent less to read"
    else:
        problem, advice = f"the request was refused{number}: {said}", DOCTOR
    return PermanentError(_text(what, problem, advice))


def _key_advice(what: str) -> str:
    keys = keys_of(what)
    return f"is {' or '.join(keys)} right, and may it use this model?" if keys else "is the API key right?"


def _name_advice(what: str) -> str:
    advice = "is the model's name (--model, or the agent's) right, and the server's address?"
    if split_name(what)[0] in OPENAI_NAMES - {"openai-chat"} and os.environ.get("OPENAI_BASE_URL"):
        advice += " Many servers know only chat completions (openai-chat:NAME)."
    return advice


def _of_connection(error: Exception, what: str) -> TaskError | None:
    if not _names(error) & (_BROKEN | _NOT_TO_BE_REACHED):
        return None
    chain = list(_chain(error))
    names = {name for link in chain for name in _names(link)}
    said = _deepest(chain)
    where = next(filter(None, map(_address, chain)), None)
    server = f"the server {where}" if where else "the server"
    if names & _NOT_TO_BE_REACHED or _NO_TRUST in said:
        advice = f"is the server's address right? {DOCTOR}"
        return PermanentError(_text(what, f"no connection with {server} is possible: {said}", advice))
    if names & _SLOW:
        return TransientError(_text(what, f"no answer in time from {server}"))
    if names & _UNREACHED:
        return Unreachable(_text(what, f"{server} can't be reached: {said}", "is it running?"))
    return TransientError(_text(what, f"the connection with {server} broke off: {said}"))


def _names(error: BaseException) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _deepest(chain: list[BaseException]) -> str:
    """Give the text of the first cause that has one: outer ones say only that there was an error."""
    texts = [text_of(link) for link in chain if isinstance(link, Exception)]
    return next((text for text in reversed(texts) if text), type(chain[0]).__name__)


def _address(error: BaseException) -> str | None:
    """Give host and port that a request went to, if the exception still knows."""
    try:
        url = error.request.url  # type: ignore[attr-defined]
        return f"{url.host}:{url.port}" if url.port else str(url.host)
    except (AttributeError, RuntimeError):  # httpx raises RuntimeError for an exception without a request
        return None


def _status(error: BaseException) -> int | None:
    for value in (
        getattr(error, "status_code", None),
        getattr(error, "code", None),
        getattr(getattr(error, "response", None), "status_code", None),
    ):
        if isinstance(value, int):
            return value
    return None


def _retry_after(error: Exception) -> float | None:
    """Give seconds from the header of a bare exception; dates, which no provider sends, are left aside."""
    known = getattr(error, "retry_after", None)
    if isinstance(known, int | float):
        return float(known)
    headers = getattr(getattr(error, "response", None), "headers", None)
    try:
        seconds = float(headers["retry-after"]) if headers is not None else -1.0
    except (KeyError, TypeError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


# --- texts ------------------------------------------------------------------------------------------------


def _said(error: Any) -> str:
    """Give what the other side said, out of the body if there is one."""
    for source in ("body", "details"):
        said = _message(getattr(error, source, None))
        if said:
            return said
    message = getattr(error, "message", None)
    if getattr(error, "body", None) is None and isinstance(message, str) and message:
        return message
    status = _status(error)
    return f"status {status}, without a reason" if status is not None else text_of(error)


def _message(body: Any) -> str | None:
    """Find the message in the body of an error: `{error: {message}}`, `{detail}`, `{error}`, a text."""
    if isinstance(body, list) and body:
        return _message(body[0])
    if isinstance(body, Mapping):
        return next(filter(None, (_message(body.get(key)) for key in ("error", "message", "detail"))), None)
    if isinstance(body, str) and not body.lstrip().startswith("<"):
        return body.strip() or None
    return None


def _text(what: str, said: str, advice: str | None = None) -> str:
    said = Redactor(secret_values(os.environ)).text(" ".join(said.split())).rstrip(".")
    if len(said) > MAX_SAID:
        said = f"{said[: MAX_SAID - 1]}…"
    if not advice:
        return f"{what}: {said}"
    stop = "" if said.endswith(("?", "!", "…")) else "."
    return f"{what}: {said}{stop} {advice[0].upper()}{advice[1:]}"
