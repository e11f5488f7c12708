"""Access control: admits this machine's programs and its own pages, not web pages from elsewhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from together_nb.config.addresses import is_loopback
from together_nb.local.request_body import RequestError

if TYPE_CHECKING:
    from email.message import Message

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]*:[0-9a-f:.]*)\]|([a-z0-9.-]+))(?::[0-9]{0,5})?")
_ORIGIN = re.compile(r"https?://([^/]+)")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_JSON = re.compile(r"text/json|application/([\w.-]+\+)?json")
# What browsers send for requests from the same origin, from the same site, and from the address bar.
_NEAR = {"same-origin", "same-site", "none"}


def check(target: str, version: str, headers: Message) -> None:
    """Check that a request may be served.

    Parameters
    ----------
    target
        The target in its first line.
    version
        Its ``HTTP/…`` version.
    headers
        Its headers.

    Raises
    ------
    RequestError
        400: it is malformed; 403: it is for another host, or from a page of one; 415: its body is of a type that
        any page can send.
    """
    _check_host(target, version, headers.get_all("Host", []))
    if not all(map(_is_near, headers.get_all("Origin", []))) or not _NEAR.issuperset(
        headers.get_all("Sec-Fetch-Site", [])
    ):
        raise RequestError(403, "This server answers no web page but those of this machine itself.")
    if not all(map(_is_taken, headers.get_all("Content-Type", []))):
        raise RequestError(415, "The body must be JSON. Send it with Content-Type: application/json.")
    if headers.defects or headers.get_payload():  # lines after a malformed one are not parsed as headers
        raise RequestError(400, "The headers are malformed.")


def _check_host(target: str, version: str, hosts: list[str]) -> None:
    if len(hosts) > 1 or (not hosts and version != "HTTP/1.0"):
        raise RequestError(400, "The request must have one Host header.")
    absolute = _ABSOLUTE.match(target)
    if not all(map(_is_here, [*hosts, *(absolute.groups() if absolute else ())])):
        raise RequestError(
            403, "This server answers for localhost and 127.0.0.1 only. Use the address that it told at its start."
        )


def _is_here(authority: str) -> bool:
    found = _AUTHORITY.fullmatch(authority.lower())
    return found is not None and is_loopback(found[1] or found[2])


def _is_near(origin: str) -> bool:
    found = _ORIGIN.fullmatch(origin.lower())
    return found is not None and _is_here(found[1])


def _is_taken(kind: str) -> bool:
    """Whether `kind` is a JSON type, or the default of curl and urllib."""
    media = kind.partition(";")[0].strip().lower()
    return media in ("", "application/x-www-form-urlencoded") or _JSON.fullmatch(media) is not None
