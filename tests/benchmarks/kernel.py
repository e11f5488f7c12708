"""A kernel whose IOPub is listened to byte by byte, and whose processor time is asked for."""

from __future__ import annotations

import ast
import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.kernels import PATIENCE, Kernel

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Message:
    """One message on IOPub.

    Parameters
    ----------
    at
        When it was heard, of `time.perf_counter`.
    kind
        Its type.
    size
        Bytes of all its frames.
    content
        Its content, as JSON.
    """

    at: float
    kind: str
    size: int
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Heard:
    """All that a cell said."""

    messages: list[Message]

    @property
    def bytes(self) -> int:
        return sum(one.size for one in self.messages)

    @property
    def seconds(self) -> float:
        return self.messages[-1].at - self.messages[0].at

    @property
    def busiest_second(self) -> int:
        """The most messages within any one second."""
        times = [one.at for one in self.messages]
        most = first = 0
        for last, at in enumerate(times):
            while at - times[first] >= 1:
                first += 1
            most = max(most, last - first + 1)
        return most

    def first_with(self, text: str, then: str = "") -> float:
        """Seconds from the beginning of the cell to the first message that has a text, and on to one that has another."""
        begun = next(one.at for one in self.messages if one.kind == "execute_input")
        rest = itertools.dropwhile(
            lambda one: one.kind == "execute_input" or text.encode() not in one.content, self.messages
        )
        return next(one.at for one in rest if then.encode() in one.content) - begun


class Watched(Kernel):
    """A kernel that knows the clients, and speaks to the server of the benchmarks."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, TOGETHER_BASE_URL=url, TOGETHER_API="chat", PYTHONPATH=str(ROOT))
        self.client.iopub_channel.stop()  # or it would keep what nobody takes
        self._socket = self.manager.connect_iopub()
        while not self._socket.poll(100):  # the kernel hears of a subscription some time later
            self.client.kernel_info(reply=True, timeout=PATIENCE)
        self.hear(f"import gc, time\nfrom tests.benchmarks.clients import CLIENTS, chatlas\nurl = {url!r}")

    def hear(self, code: str, *, keep: bool = False) -> Heard:
        """Run a cell to its end; `keep` keeps what the messages hold."""
        id = self.client.execute(code, stop_on_error=False)  # noqa: A001
        messages: list[Message] = []
        while True:
            if not self._socket.poll(PATIENCE * 1000):
                raise TimeoutError("the kernel fell silent")
            frames = self._socket.recv_multipart()
            at = time.perf_counter()
            start = frames.index(b"<IDS|MSG>") + 2
            header, parent, _, content = frames[start : start + 4]
            kind = json.loads(header)["msg_type"]
            if json.loads(parent).get("msg_id") != id:
                continue
            if kind == "error":
                raise RuntimeError(json.loads(content)["evalue"])
            short = keep or kind == "execute_input"
            messages.append(Message(at, kind, sum(map(len, frames)), content if short else b""))
            if kind == "status" and json.loads(content)["execution_state"] == "idle":
                self.client.get_shell_msg(timeout=PATIENCE)
                return Heard(messages)

    def value(self, expression: str) -> object:
        """The value of an expression of literals."""
        self.client.execute("", silent=True, user_expressions={"it": expression})
        told = self.client.get_shell_msg(timeout=PATIENCE)["content"]["user_expressions"]["it"]
        if told["status"] != "ok":
            raise RuntimeError(told["evalue"])
        return ast.literal_eval(told["data"]["text/plain"])

    def cpu(self, code: str) -> tuple[float, Heard]:
        """Seconds of the processor that a cell takes, all threads of the kernel, and what it said."""
        self.hear("gc.collect();")
        before = self.value("time.process_time()")
        heard = self.hear(code)
        return self.value("time.process_time()") - before, heard

    def stop(self) -> None:
        self._socket.close()
        super().stop()


def together_cell(model: str) -> str:
    """A cell of ours."""
    return f"%%together --api chat -m {model}\nTell"


def print_cell(name: str, model: str) -> str:
    """A cell that prints token by token, over a client."""
    return f"for text in CLIENTS[{name!r}](url, {model!r}):\n    print(text, end='', flush=True)"


def chatlas_cell(model: str) -> str:
    """A cell of chatlas."""
    return f"chatlas(url, {model!r})"
