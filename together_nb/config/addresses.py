"""Server addresses: which are valid, which are Together's, which are this machine."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urlsplit

from together_nb.errors import InputError

DEFAULT_BASE_URL = "https://api.together.xyz/v1"
TOGETHER_HOSTS = frozenset({"api.together.xyz", "api.together.ai"})
_PASTED = re.compile(r"(?:(?:/chat)?/completions|(?<=/v\d)/(?:models|inference|embeddings|responses))$")
_PAST_VERSION = re.compile(r"(.*/v\d+\w*)/.+")
_MOST_BASES = 4
_MAY_BE_PASTED = re.compile(r"/(?:(?:chat/)?completions|models|inference|embeddings|responses)$")
_NETLOC = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]\\@:%\s]+)(?::[0-9]+)?")
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (asked, not listened at)
_USERINFO = re.compile(r"//[^\s/?#]*@")


def server_root(base_url: str) -> str:
    """Return the server that `base_url` names: without a trailing slash, and without the path of a request.

    A host alone and a host with ``/v1`` are the same. 0.0.0.0, which servers print when they listen to all, is this
    machine.

    Raises
    ------
    InputError
        It is not a URL, or it is plain http to another host, where anyone on the way could read the
        key and the prompts.
    """
    if not isinstance(base_url, str):
        raise InputError(f"A base URL is a text, not {type(base_url).__name__}.", f"One looks like {DEFAULT_BASE_URL}")
    return _server_root(base_url)


@lru_cache(64)  # called for each request
def _server_root(base_url: str) -> str:
    url = base_url.strip()
    # What precedes an @ or follows a ? or # may be a key or a password, so it is not repeated.
    harmless = re.split("[?#]", url)[0].rpartition("@")[2]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_url(harmless) from None
    if parts.scheme not in ("http", "https") or not host or port == 0 or parts.query or parts.fragment:
        raise _no_url(harmless)
    if not url.isprintable() or " " in url or "\\" in url:
        raise _no_url(harmless)
    if parts.username is not None or parts.password is not None:
        raise InputError("A base URL must not hold a name or a password.", "Give the key with `%together login`.")
    if not _NETLOC.fullmatch(parts.netloc):  # other libraries might parse another host from it
        raise _no_url(harmless)
    path = re.sub("(?<!:)/+", "/", parts.path).rstrip("/")
    origin = url.removesuffix(parts.path)
    if host in _ANY:
        origin, host = origin.replace(host, _ANY[host]), _ANY[host]
    if parts.scheme == "http" and not is_loopback(host):
        raise InputError(
            f"{url} is plain http to another host: anyone on the way could read what is sent.",
            f"Use https://{host}{'' if port is None else f':{port}'}{parts.path}, or a tunnel to a port on localhost.",
        )
    path = _PASTED.sub("", path) or path  # all of a path says that there is no version in it
    return origin + ("" if path == "/v1" else path)


@lru_cache(64)
def likely_bases(root: str) -> tuple[str, ...]:
    """Return where the API of a server may be, without the path of a request: what the user wrote comes first.

    Parameters
    ----------
    root
        What `server_root` returned.
    """
    parts = urlsplit(root)
    origin = root.removesuffix(parts.path)
    versioned = f"{origin}/v1"
    if parts.hostname in TOGETHER_HOSTS:
        return (versioned,)
    if root == origin:
        return versioned, root
    shorter = _MAY_BE_PASTED.sub("", root)
    if shorter != root:  # but /models is Azure's and /inference GitHub's
        written = shorter if root.endswith("/completions") else root
        return tuple(dict.fromkeys((written, *likely_bases(shorter))))[:_MOST_BASES]
    other = root.removesuffix("/v1") if root.endswith("/v1") else f"{root}/v1"
    cut = _PAST_VERSION.fullmatch(parts.path)  # what follows a version is part of the path of a request
    cuts = [] if cut is None or other + "/v1" == root else [origin + cut[1]]
    return tuple(dict.fromkeys((root, *cuts, other, versioned, origin)))[:_MOST_BASES]


def url_of(base: str, path: str) -> str:
    """Return the address of a dialect's `path` at one of `likely_bases`."""
    if path.startswith("/v1/"):
        return base + path.removeprefix("/v1")
    return base.removesuffix("/v1").removesuffix(path) + path


def _no_url(harmless: str) -> InputError:
    # Made where it is raised: a variable that held it would form a reference cycle with the frame and its callers.
    return InputError(f"{harmless!r} is not a base URL.", f"One looks like {DEFAULT_BASE_URL}")


def server_of(root: str) -> str:
    """Return the server that a key belongs to: scheme, host and port of a URL, spelled out."""
    parts = urlsplit(root)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def host_of(root: str) -> str:
    """Return the host of a URL for a message, with its port unless it is the default."""
    parts = urlsplit(root)
    usual = ":443" if parts.scheme == "https" else ":80"
    return parts.netloc.removesuffix(usual)


def without_userinfo(text: str) -> str:
    """Remove the user name and the password from each URL in `text`."""
    return _USERINFO.sub("//", text) if "@" in text else text


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine; ``*.localhost`` does not count, as DNS may resolve it to another one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
