"""A real language model: SmolLM2-135M, served by llama.cpp's own server in a child process.

The model is fetched once, and kept in the user's cache, or in the folder that `TOGETHER_NB_TEST_MODELS` names.

The same request gives log-probabilities that differ by up to 0.2, by how much of its prompt is cached and what else is
evaluated in the same batch. So two answers are compared only at temperature 0 where the likeliest token always leads by
at least 2 (`ALPHABET` as a chat, `COUNT` as a text), or where both go the same way through the server (`SAME_WAY`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from together_nb.local.get import get_smollm
from together_nb.local.models import FOLDER_VARIABLE

CONTEXT = 4096  # tokens, shared by four answers at once
ALPHABET = "Repeat the alphabet: A, B, C, D, E, F, G, H, I, J, K, L, M"  # certain for 12 tokens
COUNT = "Count from one to ten in words: one, two, three,"  # certain for 12 tokens
STORY = "Tell me a long story about a dragon."
SAME_WAY = {"id_slot": 0}  # once the prompt is cached in that slot, only its last token is evaluated

# The server cannot be destroyed while it answers, so its process is ended instead: with ours, when the pipe closes.
_SERVE = """
import os, sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames, params.model_alias = ["127.0.0.1"], {"smollm2"}
params.n_ctx, params.n_parallel, params.kv_unified, params.cache_ram_mib = int(sys.argv[3]), 4, True, 0
params.ui, params.verbosity = False, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more would wait actively for each other
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
"""


def model_file() -> Path:
    """Return the model, fetched if it is not there."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("TOGETHER_NB_TEST_MODELS") or Path(cache) / "together_nb-tests"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        return get_smollm(lambda _: None)


class LlamaServer:
    """llama.cpp's server; `kill` ends it as a crash would, and `start` brings it back at the same address."""

    model = "smollm2"
    family = "llama.cpp"

    def __init__(self) -> None:
        self._file = model_file()
        self._port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", _SERVE, str(self._file), str(self._port), str(CONTEXT)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.base_url = self._process.stdout.readline().strip()
        assert self.base_url.startswith("http://"), "llama.cpp's server did not start"
        self._port = int(self.base_url.rpartition(":")[2])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def slots(self) -> list[dict[str, Any]]:
        """What the server says of its four answers at once."""
        with urlopen(f"{self.base_url}/slots") as reply:
            return json.load(reply)

    @property
    def at_work(self) -> int:
        """How many answers it writes at this moment."""
        return sum(slot["is_processing"] for slot in self.slots())
