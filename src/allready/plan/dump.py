"""Plans as YAML for people to read and edit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from allready.plan.yaml_positions import TEXT_KEYS

WIDTH = 100
"""Columns at which long text is folded."""

_Base: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
_KEY_ORDER = (
    *("goal", "answer", "max_parallel", "timeout", "vars", "limits", "resources"),
    *("defaults", "agents", "tasks"),
)


class _Dumper(_Base):  # type: ignore[misc]
    """Quotes text that YAML 1.1 or 1.2 would read as something else; writes longer text as a block."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - as in the base class
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text.strip("\n") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"0o[0-7]+|[-+]?[0-9]+"), list("+-0123456789")
)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
    list("+-.0123456789"),
)


def _as_read(value: Any, as_text: bool = False) -> Any:
    """Write numbers as text where they are read as it stands there: `1e-300` could become `1.0e-300`."""
    if isinstance(value, dict):
        return {key: _as_read(item, as_text or key in TEXT_KEYS) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_read(item, as_text) for item in value]
    if as_text and isinstance(value, int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return value


def plan_to_yaml(document: Mapping[str, Any]) -> str:
    """Write a plan (`Plan.document`) as YAML that loads to the same plan."""
    ordered = {key: document[key] for key in _KEY_ORDER if key in document}
    ordered.update({key: value for key, value in document.items() if key not in ordered})
    text = yaml.dump(_as_read(ordered), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    return str(text)
