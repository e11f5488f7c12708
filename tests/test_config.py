"""Key, base URL, model and defaults: where they come from, and what is refused."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal

import pytest
from traitlets import TraitError
from traitlets.config import Config, Configurable

from together_nb.config import Key, configurable_traits, is_loopback, mirror, server_root, settings
from together_nb.errors import InputError
from together_nb.params import PARAMETERS, SamplingParams

KEY = "sk-secret-0123456789abcdef"


@pytest.mark.parametrize(
    ("base_url", "root"),
    [
        ("https://api.together.xyz/v1", "https://api.together.xyz"),
        ("https://api.together.xyz", "https://api.together.xyz"),
        (" https://api.together.xyz/v1/ ", "https://api.together.xyz"),
        ("https://example.org/llm/v1", "https://example.org/llm"),
        ("https://example.org/v1/llm", "https://example.org/v1/llm"),
        ("https://example.org:8443//", "https://example.org:8443"),
        ("http://localhost:8000/v1", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.9.9.9:8000", "http://127.9.9.9:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_a_base_url_is_taken_with_v1_and_without(base_url, root):
    assert server_root(base_url) == root


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.together.xyz",
        "ftp://api.together.xyz",
        "https://",
        "https:///v1",
        "https://example.org:abc",
        "https://example.org:0",
        "https://example.org:99999",
        "https://example.org/v1?key=1",
        "https://example.org/v1#top",
        "https://exam ple.org",
        "https://example.org/a b",
        "https://exa\nmple.org",
        "http://[::1",
        "http://[localhost]",
    ],
)
def test_what_is_no_base_url_is_refused(base_url):
    with pytest.raises(InputError, match="is not a base URL") as caught:
        server_root(base_url)
    assert caught.value.hint == "One looks like https://api.together.xyz/v1"


@pytest.mark.parametrize(
    "host", ["example.org", "127.0.0.1.example.org", "localhost.example.org", "a.localhost", "10.0.0.1", "0.0.0.0"]
)
def test_plain_http_to_another_host_is_refused(host):
    assert not is_loopback(host)
    with pytest.raises(InputError, match="plain http to another host") as caught:
        server_root(f"http://{host}:8000/v1")
    assert f"https://{host}:8000/v1" in caught.value.hint


@pytest.mark.parametrize(
    "base_url", ["https://me:secret@example.org", "https://me@example.org", "https://@example.org"]
)
def test_a_base_url_with_a_password_is_refused_and_the_password_not_shown(base_url):
    with pytest.raises(InputError, match="must not hold a name or a password") as caught:
        server_root(base_url)
    assert "secret" not in str(caught.value)


def test_a_key_does_not_show_itself():
    key = Key(KEY, "a test")
    assert KEY not in f"{key!r} {key} {[key]}"
    assert repr(key) == "<API key from a test>"
    assert key.reveal() == KEY
    assert key.ending == "cdef"
    for write in (pickle.dumps, copy.deepcopy, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            write(key)


def test_a_short_key_does_not_even_show_its_ending():
    assert Key("123456789012345", "a test").ending == ""


@pytest.mark.parametrize("value", ["", "  ", "two words", "schlüssel", "a\nb", "\x00"])
def test_what_cannot_be_a_key_is_refused_without_being_shown(value):
    with pytest.raises(InputError, match="What a test holds cannot be an API key") as caught:
        Key(value, "a test")
    if value.strip():
        assert value not in str(caught.value)


def test_a_key_pasted_with_its_line_end_is_a_key():
    assert Key(f" {KEY}\n", "a test").reveal() == KEY


def test_the_key_is_the_one_that_was_set_or_else_the_environments(environ):
    assert settings.api_key is None
    environ(TOGETHER_API_KEY=KEY)
    assert (settings.api_key.reveal(), settings.api_key.source) == (KEY, "TOGETHER_API_KEY")
    settings.api_key = "sk-set-here"
    assert (settings.api_key.reveal(), settings.api_key.source) == ("sk-set-here", "settings.api_key")
    settings.api_key = None
    assert settings.api_key.reveal() == KEY
    environ(TOGETHER_API_KEY=" ")
    assert settings.api_key is None


def test_settings_do_not_show_the_key(monkeypatch):
    settings.api_key = KEY
    settings.temperature = 0
    assert KEY not in f"{settings!r} {settings} {settings.api_key!r} {settings.trait_values()}"
    assert "temperature=0" in repr(settings)
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(settings)


def test_base_url_and_model_are_those_set_or_else_the_environments(monkeypatch, environ):
    assert (settings.chosen_base_url, settings.chosen_model) == (None, None)
    environ(TOGETHER_BASE_URL="https://env.example/v1")
    monkeypatch.setenv("TOGETHER_MODEL", "env/model")
    assert (settings.chosen_base_url, settings.chosen_model) == ("https://env.example/v1", "env/model")
    settings.base_url, settings.model = "https://set.example", "set/model"
    assert (settings.chosen_base_url, settings.chosen_model) == ("https://set.example", "set/model")
    settings.base_url = settings.model = ""
    assert (settings.chosen_base_url, settings.chosen_model) == ("https://env.example/v1", "env/model")


def test_a_bad_base_url_is_refused_where_it_is_set():
    with pytest.raises(InputError, match="is not a base URL"):
        settings.base_url = "no url"
    assert settings.base_url is None


@pytest.mark.parametrize("name", ["timeout", "connect_timeout"])
@pytest.mark.parametrize("value", [0, -1, "soon", None])
def test_a_time_out_is_a_number_of_seconds_over_0(name, value):
    with pytest.raises(TraitError):
        setattr(settings, name, value)


def test_every_sampling_parameter_is_a_setting_and_unset_at_first():
    assert settings.sampling == SamplingParams()
    assert all(getattr(settings, name) is None for name in PARAMETERS)
    settings.temperature, settings.max_tokens = 0, 7
    assert settings.sampling == SamplingParams(temperature=0, max_tokens=7)
    with pytest.raises(InputError, match="max_tokens"):
        settings.max_tokens = -1
    assert settings.max_tokens == 7


def test_a_mirror_shows_changes_both_ways_and_takes_over_configuration():
    door = type("Door", (Configurable,), configurable_traits(settings))(config=Config({"Door": {"temperature": 0.25}}))
    mirror(settings, door)
    assert settings.temperature == 0.25
    door.max_tokens = 5
    assert settings.max_tokens == 5
    settings.model = "a/model"
    assert door.model == "a/model"
    with pytest.raises(InputError):
        door.max_tokens = "many"
    assert settings.max_tokens == 5


@pytest.mark.parametrize(
    "name", ["budget", "timeout", "connect_timeout", "local_tokens_per_second", "max_retries", "fill_limit"]
)
@pytest.mark.parametrize(
    "value", [10**5000, -(10**5000), 1e300, Decimal("1e999999"), Decimal("NaN")], ids=lambda one: type(one).__name__
)
def test_a_number_beyond_all_measure_is_refused_in_few_words(name, value):
    before = getattr(settings, name)
    with pytest.raises((InputError, TraitError)) as told:
        setattr(settings, name, value)
    assert len(str(told.value)) < 400
    assert getattr(settings, name) == before
    assert repr(settings)
