"""Functions that answer prompts: for agents of kind python."""

from __future__ import annotations

import os

from tests.engine.functions import Finding


def shout(prompt: str) -> str:
    return prompt.upper()


def model(prompt: str) -> Finding:
    return Finding(name=prompt)


def odd(prompt: str) -> set[str]:
    return {prompt}


def tell_secret(prompt: str) -> str:
    return os.environ["MY_API_TOKEN"]
