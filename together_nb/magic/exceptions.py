"""A prompt about the last exception: the cell that raised it and its traceback."""

from __future__ import annotations

import linecache
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from together_nb.base.escape import visible
from together_nb.base.fences import fenced
from together_nb.config.keys import without_keys
from together_nb.errors import InputError, TogetherError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_LONGEST_CELL = 6000  # characters
_LONGEST_TRACEBACK = 6000
_QUESTION = "Explain in a few sentences what went wrong, and show how to mend it."


def last_exception() -> BaseException:
    """The exception that the last failing cell raised.

    Raises
    ------
    InputError
        There is none yet.
    """
    error = getattr(sys, "last_value", None)
    # An error of `%together explain` stands for the one it explains.
    error = getattr(error, "_explaining", error)
    if not isinstance(error, BaseException):
        raise InputError("No cell has failed yet.", "Run `%together explain` after one has.")
    return error


@contextmanager
def remember(error: BaseException) -> Iterator[None]:
    """Mark an exception that ends the block, so that the next `last_exception` still returns `error`."""
    try:
        yield
    except (TogetherError, KeyboardInterrupt) as raised:
        raised._explaining = error  # type: ignore[union-attr]  # noqa: SLF001  (the mark is this module's own)
        raise


def prompt_about(error: BaseException) -> str:
    """The prompt about `error`: its cell, its traceback from the cell on, a question. It contains no key."""
    trace = _from_the_cell(error.__traceback__)
    place = getattr(error, "filename", None) if trace is None else trace.tb_frame.f_code.co_filename
    cell = "".join(linecache.getlines(place)).strip("\n") if isinstance(place, str) and _is_a_cell(place) else ""
    trace_text = "".join(traceback.TracebackException(type(error), error, trace).format())
    parts = ["A cell of a Jupyter notebook failed."]
    if cell:
        parts.append(f"The code:\n\n{fenced(_middle_out(visible(cell), _LONGEST_CELL), 'python')}")
    parts += [f"The traceback:\n\n{fenced(_middle_out(visible(trace_text).strip(), _LONGEST_TRACEBACK))}", _QUESTION]
    return without_keys("\n\n".join(parts))


def _from_the_cell(trace: TracebackType | None) -> TracebackType | None:
    """The traceback without IPython's frames before the cell; None if the cell did not compile."""
    while trace is not None and not _is_a_cell(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_a_cell(filename: str) -> bool:
    """Whether code comes from a cell: its source is cached, and there is no such file."""
    return filename in linecache.cache and not Path(filename).exists()


def _middle_out(text: str, longest: int) -> str:
    """`text`, or its two ends if it is too long: a traceback's first frame and last line say most."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n…\n{text[-half:]}"
