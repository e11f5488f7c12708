"""Kernels that tell what their cells cost them, and one whose IOPub is listened to byte by byte."""

import itertools
import json
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.figures import Bench
from tests.benchmarks.workers import ROOT
from tests.kernels import PATIENCE, Kernel, Run


def setup(bench: Bench) -> str:
    """What a kernel runs first: it knows the clients, and the server of the benchmarks."""
    return f"from tests.benchmarks.clients import CLIENTS, chatlas_draws\nurl = {bench.url!r}"


def ours(model: str, *options: str) -> str:
    """A cell that asks for that model's answer."""
    return f"%%together {' '.join(('--api chat -m', model, *options))}\nTell"


def showing(name: str, model: str) -> str:
    """A cell that shows the answer token by token, over a client."""
    if name == "chatlas":
        return f"chatlas_draws(url, {model!r})"
    return f"for text in CLIENTS[{name!r}](url, {model!r}):\n    print(text, end='', flush=True)"


class Measured(Kernel):
    """A kernel in a folder of its own."""

    def __init__(self, bench: Bench, *, loaded: bool = True, **environment: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        environment |= {"PYTHONPATH": str(ROOT), "TOGETHER_BASE_URL": bench.url}
        super().__init__(self._folder.name, loaded=loaded, **environment)
        self.ran(setup(bench))

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid

    def ran(self, code: str, *, cell: str = "") -> Run:
        """A cell that has run, and has not failed."""
        run = self.run(code, cell=cell).wait()
        if run.status != "ok":
            raise AssertionError("\n".join(run.error["traceback"]))
        return run

    def cpu(self) -> float:
        """CPU milliseconds of the kernel so far, all threads, by the clock that `clock_getcpuclockid` gives."""
        return 1e3 * time.clock_gettime((~self.pid << 3) | 2)


class Costed(Measured):
    """A kernel in which there are the functions of `growth_inside`, and which asks for that model's answers."""

    def __init__(self, bench: Bench, model: str) -> None:
        super().__init__(bench, TOGETHER_MODEL=model)
        self.ran("import json\nfrom tests.benchmarks import growth_inside")

    def told(self, call: str) -> Any:
        """What one of the functions gives."""
        return json.loads(self.ran(f"print(json.dumps(growth_inside.{call}))").stdout)

    def cost(self, code: str, *, cell: str = "") -> tuple[float, Run]:
        """CPU milliseconds of a cell, and the cell."""
        begun = self.cpu()
        run = self.ran(code, cell=cell)
        return self.cpu() - begun, run

    def cost_of_tab(self, line: str, found: str) -> float:
        """The same of Tab at the end of a line, until there are choices, among which is `found`."""
        begun = self.cpu()
        asked = self.client.complete(line, len(line))
        while (reply := self.client.get_shell_msg(timeout=PATIENCE))["parent_header"].get("msg_id") != asked:
            continue
        took = self.cpu() - begun
        if not any(match.endswith(found) for match in reply["content"]["matches"]):
            raise AssertionError(f"{found} is not offered after {line}: {reply['content']['matches']}")
        return took


@dataclass(frozen=True)
class Message:
    """One message on IOPub."""

    at: float  # when it was heard, of `time.perf_counter`
    kind: str
    size: int  # bytes of all its frames
    content: bytes  # JSON


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
        rest = itertools.dropwhile(lambda one: text.encode() not in one.content, self.messages)
        return next(one.at for one in rest if then.encode() in one.content) - begun


class Watched(Measured):
    """A kernel whose IOPub is listened to."""

    def __init__(self, bench: Bench, **environment: str) -> None:
        super().__init__(bench, **environment)
        self.client.iopub_channel.stop()  # or it would keep what nobody takes
        self._socket = self.manager.connect_iopub()
        while not self._socket.poll(100):  # the kernel hears of a subscription some time later
            self.client.kernel_info(reply=True, timeout=PATIENCE)

    def hear(self, code: str, *, keep: bool = False) -> Heard:
        """Run a cell to its end; `keep` keeps what the messages hold, but for the cell's own text."""
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
            kept = content if keep and kind != "execute_input" else b""
            messages.append(Message(at, kind, sum(map(len, frames)), kept))
            if kind == "status" and json.loads(content)["execution_state"] == "idle":
                self.client.get_shell_msg(timeout=PATIENCE)
                return Heard(messages)

    def cost(self, code: str) -> float:
        """CPU milliseconds of a cell."""
        self.hear("import gc; gc.collect();")
        begun = self.cpu()
        self.hear(code)
        return self.cpu() - begun

    def stop(self) -> None:
        self._socket.close()
        super().stop()
