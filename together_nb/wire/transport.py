"""What carries requests to a server: the network, unless a recording is made or played back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from together_nb.wire.http import HTTPExchange

if TYPE_CHECKING:
    from together_nb.wire.exchange import Call, Exchange


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

    @property
    def live(self) -> bool:
        """Whether requests reach a server."""

    @property
    def portable(self) -> bool:
        """Whether another process may send the requests instead."""

    @property
    def name(self) -> str:
        """Separates the cached lists of models."""

    @property
    def model(self) -> str:
        """Default model of a request."""

    @property
    def note(self) -> str:
        """Note in the footer of an answer."""

    @property
    def source(self) -> str:
        """Where answers come from, in words."""

    def exchange(self, call: Call) -> Exchange:
        """Return a request, not yet sent."""


class Network:
    """The network."""

    live = portable = True
    name = model = note = source = ""

    def exchange(self, call: Call) -> Exchange:
        """As `Transport.exchange`."""
        return HTTPExchange(call)
