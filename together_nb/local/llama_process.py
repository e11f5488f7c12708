"""The process that runs a model file with llama.cpp's own HTTP server. It is a script, not a module to import.

It reads one line of JSON from standard input: the options, with the key, which the list of processes would show on a
command line. It writes one line of JSON: ``address``, or ``error``. It ends when its standard input closes or its parent
is gone, whatever it is doing: llama.cpp's server can hang when it is destroyed in the middle of a request.
"""

import json
import os
import signal
import sys
import threading
import time
from typing import Any


def _follow(parent: int) -> None:
    """End with the parent. Its pipe may stay open: a fork of it has inherited the other end."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _tell(**facts: str) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    try:
        _serve(json.loads(sys.stdin.readline()))
    finally:
        os._exit(0)  # whatever happened: nothing may destroy the server


def _serve(options: dict[str, Any]) -> None:
    if os.name == "posix":  # elsewhere the parent's number does not change
        threading.Thread(target=_follow, args=(options["parent"],), daemon=True).start()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options["file"]
    params.model_alias = {options["model"]}
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.api_keys = [options["key"]]
    params.ui, params.cors_origins = False, ""
    params.n_ctx, params.n_parallel, params.kv_unified = options["context"], options["streams"], True
    params.cache_ram_mib = 0  # it would keep the prompts of the past, up to 8 GB
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options["threads"]
    params.chat_template = options["template"]
    params.n_batch = 256  # tokens of a prompt between two looks whether the client has left
    params.sse_ping_interval = 1  # second, so that this is seen at the other end too
    params.verbosity = 0
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent tells it)
        _tell(error=str(error))
        return
    _tell(address=server.listening_address)
    sys.stdin.read()


if __name__ == "__main__":
    main()
