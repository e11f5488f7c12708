"""Key, base URL, model and defaults: where they come from, and what is refused."""

import copy
import pickle
from decimal import Decimal

import pytest
from traitlets import TraitError

import together_nb
from together_nb.config.addresses import server_root
from together_nb.config.keys import Key
from together_nb.errors import InputError

KEY = "sk-secret-0123456789abcdef"


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("https://api.together.xyz/v1", "https://api.together.xyz"),
        ("https://api.together.xyz", "https://api.together.xyz"),
        (" https://api.together.xyz/v1/ ", "https://api.together.xyz"),
        ("https://example.org/llm/v1", "https://example.org/llm/v1"),
        ("https://example.org/v1/llm", "https://example.org/v1/llm"),
        ("https://example.org:8443//", "https://example.org:8443"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("http://127.9.9.9:8000", "http://127.9.9.9:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_a_base_url_is_taken_with_v1_and_without(base_url, root):
    assert server_root(base_url) == root


NO_URLS = [
    *("api.together.xyz", "ftp://api.together.xyz", "https://", "https:///v1", "http://[::1", "http://[localhost]"),
    *(f"https://example.org{rest}" for rest in (":abc", ":0", ":99999", "/v1?key=1", "/v1#top", "/a b")),
    *("https://exam ple.org", "https://exa\nmple.org", " "),
]
OTHERS = ["example.org", "127.0.0.1.example.org", "localhost.example.org", "a.localhost", "10.0.0.1"]


@pytest.mark.parametrize(
    ("base_url", "message", "hint"),
    [
        *((url, "is not a base URL", "https://api.together.xyz/v1") for url in NO_URLS),
        *((f"http://{host}:8000/v1", "plain http to another host", f"https://{host}:8000/v1") for host in OTHERS),
        *((f"https://{user}@example.org", "a name or a password", "") for user in ("me:secret", "me", "")),
    ],
)
def test_what_is_no_base_url_or_not_safe_is_refused_and_a_password_not_shown(base_url, message, hint):
    with pytest.raises(InputError, match=message) as caught:
        together_nb.settings.base_url = base_url
    assert hint in caught.value.hint
    assert "secret" not in str(caught.value)
    assert together_nb.settings.base_url is None


def test_a_key_does_not_show_itself():
    key = Key(f" {KEY}\n", "a test")  # as it is pasted
    assert KEY not in f"{key!r} {key} {[key]}"
    assert repr(key) == "<API key from a test>"
    assert key.reveal() == KEY
    assert key.ending == "cdef"
    assert Key("123456789012345", "a test").ending == ""
    for write in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            write(key)
    together_nb.settings.api_key, together_nb.settings.temperature = KEY, 0
    assert (
        KEY
        not in f"{together_nb.settings!r} {together_nb.settings} {together_nb.settings.api_key!r} {together_nb.settings.trait_values()}"
    )
    assert "temperature=0" in repr(together_nb.settings)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(together_nb.settings)


@pytest.mark.parametrize("value", ["", "  ", "two words", "schlüssel", "a\nb", "\x00"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(value):
    with pytest.raises(InputError, match="What a test holds cannot be an API key") as caught:
        Key(value, "a test")
    assert not value.strip() or value not in str(caught.value)


def test_key_base_url_and_model_are_those_set_or_else_the_environments(monkeypatch, environ):
    def chosen():
        key = together_nb.settings.api_key
        return (
            together_nb.settings.chosen_base_url,
            together_nb.settings.chosen_model,
            key and (key.reveal(), key.source),
        )

    assert chosen() == (None, None, None)
    environ(TOGETHER_BASE_URL="https://env.example/v1", TOGETHER_API_KEY=KEY)
    monkeypatch.setenv("TOGETHER_MODEL", "env/model")
    of_the_environment = ("https://env.example/v1", "env/model", (KEY, "TOGETHER_API_KEY"))
    assert chosen() == of_the_environment
    together_nb.settings.base_url, together_nb.settings.model, together_nb.settings.api_key = (
        "https://set.example",
        "set/model",
        "sk-set-here",
    )
    assert chosen() == ("https://set.example", "set/model", ("sk-set-here", "settings.api_key"))
    together_nb.settings.base_url, together_nb.settings.model, together_nb.settings.api_key = "", "", None
    assert chosen() == of_the_environment
    environ(TOGETHER_API_KEY=" ")
    assert together_nb.settings.api_key is None


NUMBERS = ["budget", "timeout", "connect_timeout", "local_tokens_per_second", "max_retries", "fill_limit"]
HUGE = [10**5000, -(10**5000), 1e300, Decimal("1e999999"), Decimal("NaN")]
NO_TIMES = [(name, value) for name in ("timeout", "connect_timeout") for value in (0, -1, "soon", None)]


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, value) for name in NUMBERS for value in HUGE), *NO_TIMES],
    ids=lambda one: str(type(one)),
)
def test_a_number_that_is_none_or_beyond_all_measure_is_refused_in_few_words(name, value):
    before = getattr(together_nb.settings, name)
    with pytest.raises((InputError, TraitError)) as caught:
        setattr(together_nb.settings, name, value)
    assert len(str(caught.value)) < 400
    assert getattr(together_nb.settings, name) == before
    assert repr(together_nb.settings)
