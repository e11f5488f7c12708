"""Each test begins as a new process would: no key, no settings, no history, no proxies."""

from __future__ import annotations

import os

import pytest

from together_nb import endpoint, session
from together_nb.config import settings


@pytest.fixture(autouse=True)
def _isolated(monkeypatch):
    for name in list(os.environ):
        if name.startswith("TOGETHER_") and not name.startswith("TOGETHER_NB_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    for name, trait in settings.traits().items():
        setattr(settings, name, trait.default())
    settings.api_key = None
    settings.local_tokens_per_second = 0
    session.history.clear()
    endpoint._catalogs.clear()


@pytest.fixture
def certificates(monkeypatch, tmp_path):
    """The authority of test certificates, trusted while the test runs."""
    from tests.servers import authority

    authority().cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "authority.pem"))
    return authority()


@pytest.fixture(params=["plain", "TLS"])
def tls(request):
    """Each test with it runs over plain http and over TLS."""
    return request.getfixturevalue("certificates") if request.param == "TLS" else None
