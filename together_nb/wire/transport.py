"""What carries requests to a server: the network, or its stand-in (`together_nb.recording`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.wire.exchange import Exchange

if TYPE_CHECKING:
    from together_nb.config.keys import Key


class Transport(Protocol):
    """What carries requests.

    Attributes
    ----------
    live : bool
        Whether requests reach a server, which may require a key and bill answers.
    name : str
        Separates the cached lists of models; "" for the network.
    model : str
        Default model of a request; "" leaves it to the settings.
    note : str
        Note in the footer of an answer; "" for none.
    source : str
        Where answers come from, in words; "" for the server.
    """

    live: bool
    name: str
    model: str

    @property
    def note(self) -> str:
        """Note in the footer of an answer."""

    @property
    def source(self) -> str:
        """Where answers come from, in words."""

    def exchange(
        self, method: str, root: str, path: str, payload: Any, *, key: Key | None, **timeouts: float
    ) -> Exchange:
        """A request, not yet sent.

        Parameters
        ----------
        method, path
            As in HTTP.
        root
            The server's base URL.
        payload
            The body, to be sent as JSON, or None.
        key, timeouts
            As for `Exchange`.
        """


class Network:
    """The network."""

    live = True
    name = model = note = source = ""

    def exchange(
        self, method: str, root: str, path: str, payload: Any, *, key: Key | None, **timeouts: float
    ) -> Exchange:
        """As `Transport.exchange`."""
        return Exchange(method, root + path, key=key, body=encoded(payload), **timeouts)


def encoded(payload: Any) -> bytes | None:
    """Encode a request's body as JSON; None stays None."""
    return None if payload is None else json.dumps(payload).encode()


NETWORK = Network()
_current: Transport = NETWORK


def current() -> Transport:
    """The transport of this process."""
    return _current


def use(transport: Transport) -> None:
    """Have `transport` carry all requests from now on."""
    global _current  # noqa: PLW0603  (one of a process)
    _current = transport
