"""The README's pictures: ``python -m tests.pictures`` takes them anew, in a real JupyterLab and a real browser.

What is seen is the package as it is, with the small model on this machine, which needs no key.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from tests.lab import CHROMIUM_FLAGS, Lab, Notebook, chromium, write_notebook
from tests.llama import model_file

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[1] / "notebooks" / "pictures"
PANEL = "panel.png"
STREAMING = "streaming.png"
SCALE = 2  # pixels of the picture to one of the page's: sharp on any screen
MARGIN = 24  # pixels around what is cut out of the page, white as the page is
PATIENCE = 60_000  # milliseconds; only a hang takes that long

_LOAD = "%load_ext together_nb"
_CELL = """%%together --temperature 0 -o answer
Explain in three sentences how a language model writes a text."""
HELD = 42  # tokens: in the middle of the answer
# Run first, and not in the picture: no further than that on a machine that is slow to look.
_HOLD = f"""import time
from together_nb.local.llama import LlamaProcess
usual = LlamaProcess.events
def held(*args):
    for number, event in enumerate(usual(*args)):
        if number == {HELD + 1}:
            time.sleep(60)
        yield event
LlamaProcess.events = held"""
_PANEL = """from together_nb import Panel
Panel(prompt="Describe the sea at night in one sentence.", temperature=0.8, max_tokens=60, seed=2, logprobs=8)"""
_POINTED_AT = 3  # the token whose alternatives are shown, counted from 0


def take_streaming(browser: Any, folder: Path, target: Path) -> str:
    """A cell, while its answer streams, for which `folder` is empty; gives what the cells read just after."""
    with _opened(browser, folder, _LOAD, _CELL, _HOLD, width=920) as notebook:
        for number in (0, 2):
            notebook.run(number)
            notebook.wait_run(number)
        notebook.cell(1).locator(".jp-InputPrompt").click()
        notebook.page.keyboard.press("Shift+Enter")  # as a person would; the cell is no longer the chosen one then
        notebook.output(1).get_by_text(f"{HELD} chunks").wait_for(timeout=PATIENCE)
        shown = [notebook.cell(number) for number in (0, 1)]
        picture = _picture(notebook.page, *shown)
        text = "\n".join(cell.inner_text() for cell in shown)
    if "[*]" not in text:
        raise RuntimeError("the answer had ended before its picture was taken")
    _save(picture, target)
    return text


def take_panel(browser: Any, folder: Path, target: Path) -> str:
    """The panel after an answer, at its tokens, with the alternatives of one; gives what the panel reads."""
    with _opened(browser, folder, _LOAD, _PANEL, width=1260) as notebook:
        for number in (0, 1):
            notebook.run(number)
            notebook.wait_run(number)
        panel = notebook.page.locator(".together-nb-panel")
        panel.get_by_role("button", name="Generate").click(timeout=PATIENCE)
        panel.get_by_role("tab", name="Tokens").click()
        panel.get_by_role("status").get_by_text("Done").wait_for(timeout=PATIENCE)
        token = panel.locator(".tnb-token").nth(_POINTED_AT)
        token.locator("input").focus()
        notebook.page.keyboard.press("Space")
        token.locator(".tnb-tip").wait_for()
        picture, text = _picture(notebook.page, panel), str(panel.inner_text())
    _save(picture, target)
    return text


@contextlib.contextmanager
def _opened(browser: Any, folder: Path, *cells: str, width: int) -> Iterator[Notebook]:
    """A notebook in a server and a page of its own, with no key and nothing of the session's settings."""
    write_notebook(folder / "lesson.ipynb", *cells)
    environment = {name: "" for name in os.environ if name.startswith("TOGETHER_")}
    lab = Lab(folder, environment=environment | {"TOGETHER_NB_MODELS": str(model_file().parent)})
    try:
        with browser.new_page(viewport={"width": width, "height": 1100}, device_scale_factor=SCALE) as page:
            notebook = Notebook(page, lab, "lesson.ipynb")
            page.keyboard.press("Control+b")  # the side bar
            yield notebook
    finally:
        lab.stop()


def _picture(page: Any, *shown: Any) -> Image.Image:
    """The part of the page that holds some elements, and a margin."""
    boxes = [one.bounding_box() for one in shown]
    left, top = (min(box[side] for box in boxes) for side in ("x", "y"))
    width = max(box["x"] + box["width"] for box in boxes) - left
    height = max(box["y"] + box["height"] for box in boxes) - top
    png = page.screenshot(clip={"x": left, "y": top, "width": width, "height": height})
    return ImageOps.expand(Image.open(io.BytesIO(png)).convert("RGB"), MARGIN, "white")


def _save(picture: Image.Image, target: Path) -> None:
    """Keep it in as few bytes as show no difference."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not by the median cut, which counts pixels: it takes the colour from a small bar.
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(target, optimize=True)


def main() -> None:
    """Take both, and say what they weigh."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        sys.exit("No chromium on this machine; install the distribution's, or name one in TOGETHER_NB_CHROMIUM.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        for take, name in ((take_streaming, STREAMING), (take_panel, PANEL)):
            with tempfile.TemporaryDirectory() as folder:
                take(browser, Path(folder), FOLDER / name)
            print(f"{name}: {(FOLDER / name).stat().st_size:,} bytes", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
