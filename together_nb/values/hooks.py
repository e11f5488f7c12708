"""What others do with values: draw them, and keep them in files.

Values import neither `render` nor `storage`. Those register here what they do with a type, and the package tells
what to import when one of them is needed first (`on_first_use`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    Function = TypeVar("Function", bound=Callable[..., Any])

_imports: list[Callable[[], object]] = []


def on_first_use(load: Callable[[], object]) -> None:
    """Call `load`, which imports the modules that register, when a hook has no function yet."""
    _imports[:] = [load]


class Hook:
    """A function by the type of its first argument, which is a value or a class of values."""

    def __init__(self) -> None:
        self._functions: dict[type, Callable[..., Any]] = {}

    def register(self, kind: type) -> Callable[[Function], Function]:
        """Have the decorated function called for `kind`."""

        def add(function: Function) -> Function:
            self._functions[kind] = function
            return function

        return add

    def __call__(self, value: Any, *arguments: Any, **options: Any) -> Any:
        """Call the function of `value`'s type."""
        function = self._function_for(value)
        if function is None:
            for load in _imports:
                load()
            function = self._function_for(value)
        if function is None:
            raise TypeError(f"nothing is registered for {value!r}")
        return function(value, *arguments, **options)

    def _function_for(self, value: Any) -> Callable[..., Any] | None:
        kind = value if isinstance(value, type) else type(value)
        return next((self._functions[base] for base in kind.__mro__ if base in self._functions), None)


bundle = Hook()
"""Content by MIME type, as a notebook saves it."""
footer = Hook()
"""One line of plain text: how the answer came about."""
save = Hook()
"""Writes a value to a file."""
load = Hook()
"""Reads a value of a class from a file."""
