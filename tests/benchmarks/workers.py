"""Modules in processes of their own, which answer each line that is written to them with one of JSON."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kernels import environment_without

ROOT = Path(__file__).parents[2]


class Worker:
    """Such a process, from outside."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
            cwd=ROOT,
            env=environment_without("TOGETHER_"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def ask(self, line: str = "") -> Any:
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def answer_lines(answer: Callable[[str], Any]) -> None:
    """Be such a process."""
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)
