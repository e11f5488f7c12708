"""Hooks to draw values and to store them in files.

`values` imports neither `render` nor `storage`. They register here what they do with a type, and the package sets
what to import when one of them is first needed (`on_first_use`).
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
    """A function chosen by the type of its first argument, a value or a class of values."""

    def __init__(self) -> None:
        self._functions: dict[type, Callable[..., Any]] = {}

    def register(self, kind: type) -> Callable[[Function], Function]:
        """Register the decorated function for `kind`."""

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
"""One line of plain text: how the answer was made."""
save = Hook()
"""Writes a value to a file."""
load = Hook()
"""Reads a value of a class from a file."""
