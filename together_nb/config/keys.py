"""API keys, hidden in their reprs, and the list of those that must be drawn and written nowhere."""

from __future__ import annotations

import secrets
import weakref
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from together_nb.config import environment
from together_nb.config.environment import KEY_VARIABLE, Environment
from together_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from together_nb.base.secret import Secret


class Hidden(str):
    """A str that is or contains the key; its repr hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An API key is not pickled: it would be written somewhere.")


def hide(value: str | None) -> str | None:
    """Return a str as `Hidden`, and anything else as it is."""
    return Hidden(value) if isinstance(value, str) else value


class Key:
    """An API key, hidden in its repr.

    Parameters
    ----------
    value
        The key.
    source
        Where it came from, in words.

    Raises
    ------
    InputError
        It cannot be a key: empty, or with characters that no HTTP header can hold.
    """

    __slots__ = ("_secret", "_value", "source")

    def __init__(self, value: str, source: str) -> None:
        if not isinstance(value, str):
            raise InputError(f"An API key is a text; {source} holds something else.", "Pass it as a str.")
        value = Hidden(value.strip())
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise InputError(f"What {source} holds cannot be an API key.", "Copy it once more, whole and alone.")
        self._value = value
        self._secret: Secret | None = None  # made at first use, not when the extension is loaded
        self.source = source

    def reveal(self) -> str:
        """Return the key itself, only for the request's header."""
        return str(self._value)

    @property
    def ending(self) -> str:
        """The last four characters; "" if the key is shorter than 16."""
        return self._value[-4:] if len(self._value) >= 16 else ""  # noqa: PLR2004

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return the parts (start, end) of `text` that `blanked` removes."""
        if self._secret is None:
            from together_nb.base.secret import Secret

            self._secret = Secret(self._value)
        return self._secret.spans(text)

    def blanked(self, text: str) -> str:
        """Return `text` without the key, which is found as `together_nb.base.secret` describes."""
        spans = self.spans(text)
        if not spans:
            return text
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), len(text)]
        return "…".join(text[end:start] for end, start in zip(ends, starts, strict=True))

    def __repr__(self) -> str:
        return f"<API key from {self.source}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An API key is not pickled: it would be written somewhere.")


ARGUMENT = "the argument api_key"
"""The source of a key that was given for one request."""
_known: list[Key] = []
"""Every key of this process, of any session. None is forgotten: a text may repeat one that is no longer in use."""


def remember(key: Key) -> Key:
    """Keep a key out of all that is drawn or written from now on, and return it."""
    if all(key.reveal() != known.reveal() for known in _known):
        _known.append(key)
    return key


def known_keys() -> tuple[Key, ...]:
    """Return every key that this process has met, and the environment's."""
    keys = list(_known)
    for value in dict.fromkeys((environment.environment.key, Environment.read().key)):
        with suppress(InputError):  # an invalid key is reported where it would be sent
            keys += [environment_key(value)] if value else []
    return tuple(keys)


@lru_cache(4)  # called for all that is drawn
def environment_key(value: str) -> Key:
    """Return the environment's key."""
    return Key(value, KEY_VARIABLE)


def without_keys(text: str) -> str:
    """Return `text` with every known key replaced."""
    for key in known_keys():
        text = key.blanked(text)
    return text


class CallKeys:
    """The keys given for single requests, by their answers, so that these can be continued. No answer holds its key."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[weakref.ref[Any], Key]] = {}

    def add(self, answer: Any, key: Key | None) -> None:
        """Remember the key of an answer as long as the answer exists, if it was given for one request."""
        if key is not None and key.source == ARGUMENT:
            number = id(answer)
            self._keys[number] = weakref.ref(answer, lambda _: self._keys.pop(number, None)), key

    def get(self, answer: Any) -> Key | None:
        """Return the key of an answer, or None."""
        held, key = self._keys.get(id(answer), (lambda: None, None))
        return key if held() is answer else None

    def clear(self) -> None:
        """Forget all."""
        self._keys.clear()


class CarriedKey:
    """A key on its way to a worker process; unlike a `Key`, it can be pickled.

    It is masked, so that a dump of the raw bytes does not show the key. This is not encryption:
    unpickling it reveals the key.

    Parameters
    ----------
    key
        The key.
    """

    __slots__ = ("_masked", "_pad", "_source")

    def __init__(self, key: Key) -> None:
        value = key.reveal().encode()
        self._pad = secrets.token_bytes(len(value))
        self._masked = _mixed(value, self._pad)
        self._source = key.source

    def unwrapped(self) -> Key:
        """Return the key, to send it."""
        return Key(_mixed(self._masked, self._pad).decode(), self._source)

    def __repr__(self) -> str:
        return f"<API key from {self._source}, on its way to a worker>"


def _mixed(value: bytes, pad: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(value, pad, strict=True))


def secret_test() -> Callable[[Any], bool]:
    """Return a function that tells whether a value holds one of the keys known now."""
    keys = known_keys()

    def is_secret(value: Any) -> bool:
        hidden = isinstance(value, (Key, CarriedKey, Hidden))
        return hidden or (isinstance(value, str) and any(key.spans(value) for key in keys))

    return is_secret
