"""Which model, and the model objects of one run.

Names are those of pydantic-ai: `anthropic:…`, `openai:…` (the Responses API), `openai-chat:…` (chat
completions, which most compatible servers speak), `google:…`, `ollama:…` and many more; and
`python:package.module:object` for a model object that a module holds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from allready.errors import UserError, text_of
from allready.plan.imports import import_object, reference_of

if TYPE_CHECKING:
    from pydantic_ai.models import Model
    from pydantic_ai.providers import Provider

MODEL_SETTINGS: Mapping[str, Any] = {"max_retries": 0}
"""For every request: the provider libraries' own retries are off, so that the pool sees every refusal."""
NO_LIBRARY = "models need the extra llm: pip install 'allready[llm]'"
INHERIT = "inherit"
"""As an agent's model: the run's own."""
PYTHON = "python"
"""The "provider" of model objects that modules hold."""
NO_KEY = "no-key"
"""In place of a key for servers that need none: the libraries insist on one."""
OPENAI = "https://api.openai.com/v1"
"""Where OpenAI itself is, for `OPENAI_BASE_URL` that is not set."""
OLLAMA = "http://127.0.0.1:11434/v1"
"""Where Ollama listens unless it was told otherwise; for `OLLAMA_BASE_URL` that is not set."""


class _Known(NamedTuple):
    """What a provider needs."""

    keys: tuple[str, ...] = ()
    """Variables of which one must be set."""
    module: str = "openai"
    """The library that talks to it."""


_GOOGLE = _Known(("GOOGLE_API_KEY", "GEMINI_API_KEY"), "google.genai")
_PROVIDERS: Mapping[str, _Known] = {
    "anthropic": _Known(("ANTHROPIC_API_KEY",), "anthropic"),
    "openai": _Known(("OPENAI_API_KEY", "OPENAI_BASE_URL")),
    "openai-chat": _Known(("OPENAI_API_KEY", "OPENAI_BASE_URL")),
    "openai-responses": _Known(("OPENAI_API_KEY", "OPENAI_BASE_URL")),
    "google": _GOOGLE,
    "ollama": _Known(),
    "cerebras": _Known(("CEREBRAS_API_KEY",)),
    "deepseek": _Known(("DEEPSEEK_API_KEY",)),
    "fireworks": _Known(("FIREWORKS_API_KEY",)),
    "groq": _Known(("GROQ_API_KEY",), "groq"),
    "mistral": _Known(("MISTRAL_API_KEY",), "mistralai"),
    "moonshotai": _Known(("MOONSHOTAI_API_KEY",)),
    "openrouter": _Known(("OPENROUTER_API_KEY",)),
    "together": _Known(("TOGETHER_API_KEY",)),
    "vllm": _Known(("VLLM_BASE_URL",)),
    "xai": _Known(("XAI_API_KEY",), "xai_sdk"),
    "zai": _Known(("ZAI_API_KEY",)),
}
"""Those whose needs can be told without importing anything; pydantic-ai has more."""
OPENAI_NAMES = frozenset({"openai", "openai-chat", "openai-responses"})
"""One provider under several names: one width of the pool, one key."""

DEFAULTS: Mapping[str, str] = {
    "anthropic": "anthropic:claude-sonnet-5-5",
    "openai": "openai:gpt-6.1-terra",
    "google": "google:gemini-3.8-flash",
}
"""Taken if only a key says which provider, the first of these: each provider's current one of middle size."""

_PREFIXES = {"claude-": "anthropic", "gpt-": "openai", "gemini-": "google"}
"""Beginnings of names that say whose model it is."""
ALIASES: Mapping[str, str] = {
    "sonnet": "anthropic:claude-sonnet-5-5",
    "opus": "anthropic:claude-opus-5-5",
    "haiku": "anthropic:claude-haiku-5-5",
}
"""How agent files of `.claude/agents/` name models: with a key for Anthropic these, else the run's own."""


class NoModel(UserError):
    """No model was named, and no key in the environment names one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        if environment.get("OPENAI_BASE_URL"):
            local = "or, for the server at OPENAI_BASE_URL, name one of its models: --model openai-chat:NAME"
        else:
            local = (
                "or use a local server: --model ollama:NAME,"
                " or OPENAI_BASE_URL=http://127.0.0.1:PORT/v1 with --model openai-chat:NAME"
            )
        if not has_models():
            super().__init__(f"no model is chosen, and {NO_LIBRARY}")
            return
        super().__init__(
            "no model is chosen: set a key (ANTHROPIC_API_KEY, OPENAI_API_KEY or GOOGLE_API_KEY),"
            f" or name a model with --model or ALLREADY_MODEL;\n{local}"
        )


def choose_model(wanted: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Give the run's model: the wanted one as it is, else by the keys in the environment, else None.

    A key for OpenAI does not choose while `OPENAI_BASE_URL` is set: who knows which models are there?
    """
    if wanted:
        return wanted
    for provider, name in DEFAULTS.items():
        if provider == "openai" and environment.get("OPENAI_BASE_URL"):
            continue
        if deciding_key(name, environment) is not None:
            return name
    return None


def keys_of(name: str) -> tuple[str, ...]:
    """Give the variables of which one holds the key for a model's provider; none if that is not known."""
    known = _PROVIDERS.get(split_name(name)[0], _Known())
    return tuple(key for key in known.keys if key.endswith("_KEY"))


def deciding_key(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Give the variable that is set and holds the key for a model's provider; None if there is none."""
    return next((key for key in keys_of(name) if environment.get(key)), None)


def full_name(name: str) -> str:
    """Put the provider before a name that says it by itself: `claude-…`, `gpt-…`, `gemini-…`."""
    name = ALIASES.get(name, name)
    if ":" not in name:
        for prefix, provider in _PREFIXES.items():
            if name.startswith(prefix):
                return f"{provider}:{name}"
    return name


def provider_of(name: str) -> str:
    """Give the provider whose limits a model shares; a model object of a module is its own."""
    provider, rest = split_name(name)
    if provider == PYTHON:
        return rest
    return "openai" if provider in OPENAI_NAMES else provider


def split_name(name: str) -> tuple[str, str]:
    """Give provider and model, the provider empty if the name does not say."""
    provider, colon, rest = full_name(name).partition(":")
    return (provider, rest) if colon else ("", provider)


def has_models() -> bool:
    """Say whether the libraries for models are installed."""
    return find_spec("pydantic_ai") is not None


def check_model(name: str) -> str | None:
    """Say why a model can't be used here; None if it may work.

    Quick: imports no provider's library; but the module that holds a model object is imported.
    """
    if not has_models():
        return NO_LIBRARY
    provider, rest = split_name(name)
    if provider == PYTHON:
        try:
            _imported(name)
        except UserError as error:
            return str(error)
        return None
    if not provider or not rest:
        return f"{name!r} does not say whose model it is; write PROVIDER:NAME, as in {DEFAULTS['openai']}"
    known = _PROVIDERS.get(provider)
    if known is None:
        return None
    if not _installed(known.module):
        return f"the library for {provider} is missing: pip install 'pydantic-ai-slim[{provider}]'"
    if known.keys and not any(os.environ.get(key) for key in known.keys):
        own = next((f", or {key} for a server of your own" for key in known.keys if key.endswith("_URL")), "")
        return f"{full_name(name)} needs a key: set {known.keys[0]}{own if len(known.keys) > 1 else ''}"
    return None


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def price_of(name: str, read: int = 1, written: int = 1) -> float | None:
    """Give what so many tokens of a model cost, in US dollars; None if that is not known."""
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    provider, rest = split_name(name)
    if provider == PYTHON:
        try:
            provider, rest = split_name(_imported(name).model_id)
        except (ImportError, UserError):
            return None
    usage = Usage(input_tokens=read, output_tokens=written)
    try:
        price = calc_price(usage, rest, provider_id=provider.removeprefix("gateway/"))
    except (LookupError, ValueError):
        return None
    return float(price.total_price)


class Models:
    """The models of one run, made when they are first asked for; for one event loop.

    `default` is the run's own model: a name, or a pydantic-ai model object. Safe to ask from any thread:
    the first time a provider is used its library is imported, which can take a second.
    """

    def __init__(self, default: str | Model | None = None) -> None:
        self._given = None if isinstance(default, str) else default
        self.default_name: str | None = full_name(default) if isinstance(default, str) else None
        """The run's own model; of a model object its `model_id`."""
        if self._given is not None:
            self.default_name = self._given.model_id
        self._made: dict[str, Model] = {}
        self._lock = threading.Lock()

    @property
    def stored_name(self) -> str | None:
        """The name by which another process finds the run's own model again; None: there is no such name.

        Of a model object that is `python:package.module:name`, if a module holds it.
        """
        if self._given is None:
            return self.default_name
        reference = reference_of(self._given)
        return None if reference is None else f"{PYTHON}:{reference}"

    @property
    def has_object(self) -> bool:
        """Say whether the run's own model is a model object."""
        return self._given is not None

    def name_of(self, wanted: str | None) -> str | None:
        """Give the name of the model that an agent's `model` means; None: the run's, which has none."""
        if not wanted or wanted == INHERIT:
            return self.default_name
        if wanted in ALIASES and self.default_name and deciding_key(wanted) is None:
            return self.default_name
        return full_name(wanted)

    def problem_of(self, wanted: str | None) -> str | None:
        """Say why the model that `get` would give can't be used; None if it may work. See `check_model`."""
        name = self.name_of(wanted)
        if name is None:
            return str(NoModel())
        return None if self._given is not None and name == self.default_name else check_model(name)

    def get(self, wanted: str | None = None) -> Model:
        """Give the model that goes by this name, or the run's own; the same object each time.

        Raises `NoModel` if there is none, `UserError` with advice if it can't be made.
        """
        name = self.name_of(wanted)
        if name is None:
            raise NoModel
        if self._given is not None and name == self.default_name:
            return self._given
        if name.startswith(f"{PYTHON}:"):
            return _imported(name)
        with self._lock:
            if name not in self._made:
                self._made[name] = _make(name)
            return self._made[name]

    async def close(self) -> None:
        """Close the connections of the models made here; model objects that were given stay as they are."""
        made, self._made = self._made, {}
        for model in made.values():
            async with model:  # its end is what closes the HTTP client
                pass


def _imported(name: str) -> Model:
    from pydantic_ai.models import Model

    reference = name.removeprefix(f"{PYTHON}:")
    try:
        found = import_object(reference)
    except (Exception, SystemExit) as error:  # whatever the module does when it is imported
        raise UserError(f"model {name}: {type(error).__name__}: {text_of(error)}") from error
    if not isinstance(found, Model):
        raise UserError(f"model {name}: {reference} is no pydantic-ai model but {type(found).__name__}")
    return found


def _make(name: str) -> Model:
    problem = check_model(name)
    if problem is not None:
        raise UserError(problem)
    from pydantic_ai.models import infer_model

    factory = _FACTORIES.get(split_name(name)[0])
    try:
        return infer_model(name) if factory is None else infer_model(name, lambda _: factory())
    except Exception as error:
        # pydantic-ai's own advice for programs is left away: `… or pass it via `Provider(api_key=…)``
        said = text_of(error).partition(" or pass it via ")[0].rstrip(".")
        raise UserError(f"model {name} can't be used: {said}") from error


def _openai() -> Provider[Any]:
    from pydantic_ai.providers.openai import OpenAIProvider

    # an empty variable is none; to the library it would be an address
    address = os.environ.get("OPENAI_BASE_URL") or OPENAI
    return OpenAIProvider(base_url=address, api_key=os.environ.get("OPENAI_API_KEY") or NO_KEY)


def _ollama() -> Provider[Any]:
    from pydantic_ai.providers.ollama import OllamaProvider

    return OllamaProvider(base_url=os.environ.get("OLLAMA_BASE_URL") or OLLAMA)


_FACTORIES: Mapping[str, Callable[[], Provider[Any]]] = {
    **dict.fromkeys(OPENAI_NAMES, _openai),
    "ollama": _ollama,
}
"""Providers that are made otherwise than pydantic-ai does by itself."""
