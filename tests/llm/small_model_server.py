"""A program: serves the small model until its standard input ends. Prints its address first, as one line.

python small_model_server.py MODEL.gguf KEY
"""

from __future__ import annotations

import importlib
import os
import sys

PLACES = 3
"""Requests that are answered at the same time; more wait."""
CONTEXT = 4096
"""Tokens that one request and its answer may have together."""
LONGEST_ANSWER = 160
"""Tokens, some two seconds: without an end a small model talks on and on."""


def serve(model: str, key: str) -> None:
    library = importlib.import_module("xllamacpp")  # has no types
    threads = max(1, (os.cpu_count() or 2) - 1)  # one is for those who ask
    settings = library.CommonParams()
    settings.model.path = model
    settings.model_alias = {"small"}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.api_keys = [key]
    settings.cors_origins = "http://127.0.0.1"
    settings.ui = False
    settings.offline = True
    settings.cache_ram_mib = 0
    settings.n_parallel = PLACES
    settings.n_ctx = PLACES * CONTEXT
    settings.n_predict = LONGEST_ANSWER
    settings.endpoint_slots = True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.sampling.temp = 0.0
    settings.sampling.seed = 1
    server = library.Server(settings)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    serve(*sys.argv[1:])
