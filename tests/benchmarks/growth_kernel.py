"""A kernel that tells what its cells cost it."""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.benchmarks.kernel import ROOT
from tests.kernels import PATIENCE, Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.run import Bench
    from tests.kernels import Run


class Costed(Kernel):
    """A kernel in which there are the functions of `growth_inside`."""

    def ran(self, code: str, *, cell: str = "") -> Run:
        """A cell that has run, and has not failed."""
        run = self.run(code, cell=cell).wait()
        if run.status != "ok":
            raise AssertionError("\n".join(run.error["traceback"]))
        return run

    def told(self, call: str) -> Any:
        """What one of the functions gives."""
        return json.loads(self.ran(f"print(json.dumps(growth_inside.{call}))").stdout)

    def cpu(self) -> float:
        """CPU milliseconds of the kernel so far, all threads, by the clock that `clock_getcpuclockid` gives."""
        return 1e3 * time.clock_gettime((~self.manager.provisioner.process.pid << 3) | 2)

    def cost(self, code: str) -> float:
        """CPU milliseconds of a cell."""
        begun = self.cpu()
        self.ran(code)
        return self.cpu() - begun

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


@contextmanager
def costed(bench: Bench, model: str) -> Iterator[Costed]:
    """A kernel that asks the server for that model's answers."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = Costed(folder, PYTHONPATH=str(ROOT), TOGETHER_BASE_URL=bench.url, TOGETHER_MODEL=model)
        try:
            kernel.ran("import json\nfrom tests.benchmarks import growth_inside")
            yield kernel
        finally:
            kernel.stop()
