"""API keys and headers, hidden in their reprs, and the list of what must be drawn and written nowhere."""

from __future__ import annotations

import json
import re
import secrets
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from together_nb.config import environment
from together_nb.config.environment import KEY_VARIABLE, Environment
from together_nb.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from together_nb.base.secret import Secret


class Hidden(str):
    """A str that is or contains the key; its repr hides it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An API key is not pickled: it would be written somewhere.")


class Veiled:
    """What a user gave instead of a str, such as a dict of headers, hidden in tracebacks until it is checked."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("What may hold an API key is not pickled: it would be written somewhere.")


def hide(value: Any) -> Any:
    """Return a str as `Hidden`, None and what hides itself as it is, and anything else as `Veiled`."""
    if value is None or isinstance(value, (Hidden, Veiled, Key, Headers)):
        return value
    return Hidden(value) if isinstance(value, str) else Veiled(value)


class Key:
    """An API key, hidden in its repr.

    Parameters
    ----------
    value
        The key.
    source
        Where it came from, in words.
    spaced
        Whether it may have spaces and line breaks, as a secret within a header may.

    Raises
    ------
    InputError
        It cannot be a key: empty, or with characters that no HTTP header can hold.
    """

    __slots__ = ("_secret", "_value", "source")

    def __init__(self, value: str, source: str, *, spaced: bool = False) -> None:
        if not isinstance(value, str):
            raise InputError(f"An API key is a text; {source} holds something else.", "Pass it as a str.")
        value = Hidden(value.strip())
        if not value or not value.isascii() or not (spaced or (value.isprintable() and " " not in value)):
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


# What the client itself must control, and what is between it and the next proxy.
_OURS = (
    "accept-encoding connection content-encoding content-length content-type expect host keep-alive te trailer "
    "transfer-encoding upgrade"
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]+")
_PART = re.compile(r"""[^\x00-\x20\x7f-\xff"'(),;<>\[\]{}]+""")  # of a value: a word, or one of JSON's strings
_PAIR = re.compile(r"""(?<![\w.-])([\w.-]+)["']?\s*[=:]\s*["']?([^\s"',;&]+)""")  # as in `provider=openai;api_key=…`
_SCHEME = re.compile(r"(?:bearer|basic|token|digest)\s+", re.IGNORECASE)  # before the secret itself
_OF_A_SECRET = re.compile(
    r"(?:(?:key|token)(?:id|value)?|auth|authentication|authorization|bearer|cookie|credential"
    r"|jwt|passphrase|passw(?:or)?d|secret|signature)s?(?![a-z])"
)
# Names with such words in them that hold no secret.
_OF_NONE = re.compile(
    r"portkey|monkey|turkey|(?:affinity|cache|correlation|continuation|dedup(?:lication)?|foreign|group|hash|idempotency"
    r"|idempotent|max|object|page|partition|primary|public|routing|row|shard|sort|sticky)[-_.]?(?:key|token)s?(?![a-z])"
    r"|(?:key|token|auth|authentication|authorization)s?[-_.]?(?:type|method|mode|scheme|version|limit|count|name)s?(?![a-z])"
)


def _is_of_a_secret(name: str) -> bool:
    """Whether the name of a header, or of a value in it, says that it holds a secret."""
    return _OF_A_SECRET.search(_OF_NONE.sub(" ", name.lower())) is not None


def _named(name: str, value: str) -> Iterator[tuple[str, Hidden]]:
    """Yield the texts within a header's value with their names, and first the value itself."""
    yield name, Hidden(value)
    try:
        within = json.loads(value)
    except (ValueError, RecursionError):
        within = None
    if not isinstance(within, (dict, list)):
        yield from ((inner, Hidden(text)) for inner, text in _PAIR.findall(value))
        return
    left: list[tuple[str, Any]] = [(name, within)]
    while left:  # no recursion: JSON may be nested deeper than the stack is
        name, one = left.pop()
        if isinstance(one, dict):
            left += [(f"{name} {inner}", text) for inner, text in one.items()]
        elif isinstance(one, list):
            left += [(name, text) for text in one]
        elif isinstance(one, str) and one.strip():
            yield name, Hidden(one)


class Headers:
    """Further headers of a request (`default_headers`), as secret as a key and hidden in their repr.

    A server may repeat a value. So it is removed from texts as keys are, by the rules of `together_nb.base.secret`:
    the whole and all of its parts if the name of the header, or within its JSON, says that it is a secret
    (``api-key``, ``Authorization``), and otherwise the parts that look like one (`looks_random`). The others stay in
    texts, or ``x-portkey-provider: openai`` would remove each "openai" from an answer.

    Parameters
    ----------
    given
        A dict of names and values; other headers; None for none.

    Attributes
    ----------
    of_a_call
        Whether some were given for one request.

    Raises
    ------
    InputError
        They cannot be sent: no dict of str to str, with characters that no header can hold, or of a name that the
        client itself must control. Or a secret has characters beyond ASCII, by which it might not be found in texts.
    """

    __slots__ = ("_values", "of_a_call")

    def __init__(self, given: Any = None) -> None:
        given = hide(given)
        self._values: dict[str, Hidden] = {}  # by name in lower case
        self.of_a_call = False
        if given is None:
            return
        if isinstance(given, Headers):
            self._values, self.of_a_call = given.reveal(), given.of_a_call
            return
        if not isinstance(given, Veiled) or not isinstance(given.value, Mapping):
            raise InputError("default_headers must be a dict of names and values.", 'One looks like {"api-key": "…"}.')
        for name, value in ((hide(name), hide(given.value[name])) for name in given.value):
            self._add(name, value)

    def _add(self, name: Any, value: Any) -> None:
        if not isinstance(name, Hidden) or _NAME.fullmatch(name) is None:
            raise InputError("A name in default_headers is not that of an HTTP header.", "One looks like api-key.")
        lower = str(name).lower()
        if lower in _OURS.split() or lower.startswith("proxy-"):
            raise InputError(f"default_headers cannot set {lower}: that is up to together_nb.", "Leave it out.")
        if not isinstance(value, Hidden):
            raise InputError(f"The value of {lower} in default_headers is not a text.", "Pass it as a str.")
        value = Hidden(value.strip())
        if _VALUE.fullmatch(value) is None:
            raise InputError(
                f"The value of {lower} in default_headers is empty, or has characters that no HTTP header can hold.",
                "Copy it once more, on one line.",
            )
        found = [Hidden(text) for inner, text in _named(lower, value) if _is_of_a_secret(inner)]
        if not all(map(str.isascii, found)):
            raise InputError(
                f"The secret in {lower} of default_headers has characters beyond ASCII, and cannot be kept out of texts.",
                "Use one of letters, digits and signs of ASCII.",
            )
        self._values[lower] = value
        self._hide(lower, value, found)

    def _hide(self, name: str, value: Hidden, found: list[Hidden]) -> None:
        """Keep the secrets that were found in a value, and parts of it that look like one, out of texts."""
        from together_nb.base.secret import looks_random

        parts = [Hidden(part) for text in found for part in _PART.findall(text)]
        parts += [Hidden(part) for part in _PART.findall(value) if looks_random(part)]
        for text in found:
            whole = Hidden(_SCHEME.sub("", text.strip(), count=1))
            parts += [whole, Hidden(" ".join(whole.split()))]  # and as messages show it, on one line
        for part in filter(None, parts):
            remember(Key(part, f"the header {name}", spaced=True))

    def over(self, standing: Headers, *, key_given: bool = False) -> Headers:
        """Return both; of the same name these win, and a key given for the request wins over a standing one."""
        both = Headers()
        both._values = {**standing._values, **self._values}
        both.of_a_call = bool(self) or standing.of_a_call
        if key_given and "authorization" not in self:
            both._values.pop("authorization", None)
        return both

    def reveal(self) -> dict[str, Hidden]:
        """Return the names in lower case, and the values, only for the request."""
        return dict(self._values)

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in lower case."""
        return tuple(self._values)

    @property
    def account(self) -> str:
        """Tells these headers from others, and says nothing of their values; "" for none."""
        return str(hash(frozenset(self._values.items()))) if self else ""

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        return f"<headers {', '.join(self._values)}, values hidden>" if self else "<no headers>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Headers are not pickled, as API keys are not: they would be written somewhere.")


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
    """The keys and headers given for single requests, by their answers, so that these can be continued.

    No answer holds its own.
    """

    def __init__(self) -> None:
        self._keys: dict[int, tuple[weakref.ref[Any], Key | None, Headers | None]] = {}

    def add(self, answer: Any, key: Key | None, headers: Headers | None) -> None:
        """Remember those of an answer as long as the answer exists, if they were given for one request."""
        key = key if key is not None and key.source == ARGUMENT else None
        headers = headers if headers is not None and headers.of_a_call else None
        if key is not None or headers is not None:
            number = id(answer)
            self._keys[number] = weakref.ref(answer, lambda _: self._keys.pop(number, None)), key, headers

    def get(self, answer: Any) -> tuple[Key | None, Headers | None]:
        """Return the key and the headers of an answer, or None."""
        held, key, headers = self._keys.get(id(answer), (lambda: None, None, None))
        return (key, headers) if held() is answer else (None, None)

    def clear(self) -> None:
        """Forget all."""
        self._keys.clear()


class CarriedKey:
    """A key and headers on their way to a worker process; unlike them, it can be pickled.

    They are masked, so that a dump of the raw bytes does not show them. This is not encryption:
    unpickling it reveals them.

    Parameters
    ----------
    key
        The key, or None.
    headers
        The headers.
    """

    __slots__ = ("_masked", "_of_a_call", "_pad", "_source")

    def __init__(self, key: Key | None, headers: Headers) -> None:
        value = json.dumps([None if key is None else key.reveal(), headers.reveal()]).encode()
        self._pad = secrets.token_bytes(len(value))
        self._masked = _mixed(value, self._pad)
        self._source = "" if key is None else key.source
        self._of_a_call = headers.of_a_call

    def unwrapped(self) -> tuple[Key | None, Headers]:
        """Return the key and the headers, to send them."""
        key, given = map(hide, json.loads(_mixed(self._masked, self._pad)))
        headers = Headers(given)
        headers.of_a_call = self._of_a_call
        return None if key is None else Key(key, self._source), headers

    def __repr__(self) -> str:
        return f"<{f'API key from {self._source}' if self._source else 'headers'}, on its way to a worker>"


def _mixed(value: bytes, pad: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(value, pad, strict=True))


def secret_test() -> Callable[[Any], bool]:
    """Return a function that tells whether a value holds one of the keys known now."""
    keys = known_keys()

    def is_secret(value: Any) -> bool:
        hidden = isinstance(value, (Key, Headers, CarriedKey, Hidden, Veiled))
        return hidden or (isinstance(value, str) and any(key.spans(value) for key in keys))

    return is_secret
