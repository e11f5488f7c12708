"""What carries requests to a server: the network, unless a recording is made or played back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

from together_nb.wire.http import HTTPExchange

if TYPE_CHECKING:
    from together_nb.config.keys import Key
    from together_nb.wire.exchange import Exchange


class Transport(Protocol):
    """What carries the requests of a session.

    Attributes
    ----------
    live : bool
        Whether requests reach a server, which may require a key and bill answers.
    portable : bool
        Whether another process may send the requests instead.
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
    portable: bool
    name: str
    model: str

    @property
    def note(self) -> str:
        """Note in the footer of an answer."""

    @property
    def source(self) -> str:
        """Where answers come from, in words."""

    def exchange(
        self,
        method: str,
        root: str,
        path: str,
        payload: Any,
        *,
        key: Key | None,
        connect_timeout: float,
        timeout: float,
    ) -> Exchange:
        """Return a request, not yet sent.

        Parameters
        ----------
        method, path
            As in HTTP.
        root
            The server's base URL.
        payload
            The body, to be sent as JSON, or None.
        key
            Sent with the request, or None.
        connect_timeout, timeout
            Seconds: for the connection, and for the answer to begin.
        """


class Network:
    """The network."""

    live = portable = True
    name = model = note = source = ""

    def exchange(
        self,
        method: str,
        root: str,
        path: str,
        payload: Any,
        *,
        key: Key | None,
        connect_timeout: float,
        timeout: float,
    ) -> Exchange:
        """As `Transport.exchange`."""
        body = None if payload is None else json.dumps(payload).encode()
        return HTTPExchange(method, root + path, key=key, body=body, connect_timeout=connect_timeout, timeout=timeout)
