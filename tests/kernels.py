"""A real kernel, and everything that it says on IOPub."""

from __future__ import annotations

import ast
import json
import os
import tempfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_client.jsonutil import extract_dates
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from datetime import datetime

PATIENCE = 60.0  # seconds; only a hang takes that long
WIDGET = "application/vnd.jupyter.widget-view+json"


def environment_without(*prefixes: str) -> dict[str, str]:
    """The environment, but for the variables whose names begin so."""
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def sent_at(message: dict[str, Any]) -> datetime:
    """When a message was sent. Once ipyparallel has been imported, jupyter_client leaves dates as they came."""
    return extract_dates(message["header"]["date"])


@dataclass
class Run:
    """A cell that is running or has run, and its messages."""

    kernel: Kernel
    id: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

    def until(self, seen: Any) -> dict[str, Any]:
        """Take messages until one for which `seen` is true."""
        while True:
            message = self.kernel.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") == self.id:
                self.messages.append(message)
                if seen(message):
                    return message

    def wait(self) -> Run:
        """Until the kernel is idle again and has replied."""
        self.until(lambda one: one["msg_type"] == "status" and one["content"]["execution_state"] == "idle")
        while self.reply.get("parent_header", {}).get("msg_id") != self.id:
            self.reply = self.kernel.client.get_shell_msg(timeout=PATIENCE)
        return self

    @property
    def status(self) -> str:
        return self.reply["content"]["status"]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [one for one in self.messages if one["msg_type"] in kinds]

    @property
    def bytes(self) -> int:
        """Bytes of the messages' four JSON parts."""
        parts = ("header", "parent_header", "metadata", "content")
        return sum(len(json.dumps(one[part], default=str)) for one in self.messages for part in parts)

    @property
    def left(self) -> list[dict[str, Any]]:
        """The outputs that the cell is left with."""
        outputs: dict[str, dict[str, Any]] = {}
        for one in self.of("display_data", "update_display_data", "execute_result"):
            outputs[one["content"].get("transient", {}).get("display_id", str(len(outputs)))] = one["content"]
        return list(outputs.values())

    @property
    def display(self) -> dict[str, Any]:
        """The one output that the cell is left with."""
        (left,) = self.left
        return left

    @property
    def error(self) -> dict[str, Any]:
        (one,) = self.of("error")
        return one["content"]

    @property
    def stdout(self) -> str:
        return "".join(one["content"]["text"] for one in self.of("stream") if one["content"]["name"] == "stdout")

    def repaints(self) -> list[tuple[datetime, str]]:
        """When output widgets were painted, and with what Markdown."""
        return [
            (sent_at(one), output["data"]["text/markdown"])
            for one in self.of("comm_msg", "comm_open")
            for output in one["content"]["data"].get("state", {}).get("outputs") or ()
        ]


class Kernel:
    """A Python kernel in a process of its own, with the extension loaded, or as the folder's profile has it."""

    def __init__(self, folder: Any, *, loaded: bool = True, **environment: str):
        # Sockets with names: ports that are free when they are picked can be another's when the kernel binds them.
        self._sockets = tempfile.TemporaryDirectory(prefix="tnb")  # a short path: a socket's name has 107 bytes
        self.manager = KernelManager(transport="ipc", ip=f"{self._sockets.name}/k")
        kept = environment_without("TOGETHER_")
        self.manager.start_kernel(env={**kept, "IPYTHONDIR": str(folder), **environment}, cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        if loaded:
            self.run("%load_ext together_nb").wait()

    def run(self, code: str, *, watched: bool = True, all: bool = False, cell: str = "") -> Run:  # noqa: A002  (Run All)
        """Start a cell; `watched` is what a front end with a person before it says, `all` that a failure is to end what is queued.

        `cell` is the cell's id, as a notebook's front end sends it along.
        """
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": watched}
        # Or a kernel of old passes over the next cell, when that comes soon after one that failed.
        content["stop_on_error"] = all
        message = self.client.session.msg("execute_request", content, metadata={"cellId": cell} if cell else {})
        self.client.shell_channel.send(message)
        return Run(self, message["header"]["msg_id"])

    def value(self, expression: str) -> str:
        """The repr of an expression."""
        run = self.run(expression).wait()
        assert run.status == "ok", run.error
        return run.of("execute_result")[0]["content"]["data"]["text/plain"]

    def text(self, expression: str) -> str:
        """The text that an expression is; its repr chooses its quotes by what is in it."""
        text = ast.literal_eval(self.value(expression))
        assert isinstance(text, str), text
        return text

    def answer_stdin(self, text: str) -> dict[str, Any]:
        """Answer the question that the kernel asks; returns the question."""
        asked = self.client.get_stdin_msg(timeout=PATIENCE)
        self.client.input(text)
        return asked["content"]

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def stop(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self._sockets.cleanup()
