"""`default_headers`: what can be sent, for whom it is, and which values are taken out of texts."""

from __future__ import annotations

import copy
import pickle
import traceback

import pytest

import together_nb
from together_nb.config.keys import Headers, known_keys, secret_test, without_keys
from together_nb.errors import InputError

SECRET = "Zq7xWd9vKf3Lm5tRt8Yb2nNc6Hj4kUv0pXe1s"
HERE, ELSEWHERE = "https://gateway.example/v1", "https://elsewhere.example/v1"


@pytest.mark.parametrize(
    "given",
    [
        {"api-key": SECRET},
        {"X-Portkey-Config": f'{{"provider": "openai", "api_key": "{SECRET}"}}'},
        {"Authorization": f"Bearer {SECRET}", "User-Agent": "lesson/1.0", "Accept": "*/*", "Cookie": "a=b"},
        {"x_odd!#$%&'*+.^`|~name": "grüße \t ok"},
        {"api-key": f"  {SECRET}\n"},  # as it is pasted
        {},
    ],
)
def test_names_are_taken_in_any_case_and_values_as_they_are(given):
    assert Headers(given).reveal() == {name.lower(): value.strip() for name, value in given.items()}


NO_NAMES = ["", "two words", "api-key:", "schlüssel", "a\nb", 5, None, b"api-key", ("api-key", SECRET)]
OURS = """
Host Content-Length CONTENT-TYPE content-encoding Transfer-Encoding Connection Accept-Encoding TE Trailer Upgrade Expect
Keep-Alive Proxy-Authorization Proxy-Connection
"""
NO_VALUES = ["", "  ", f"{SECRET}\r\nHost: b", f"{SECRET}\x00", f"{SECRET}€", f"a\x7f{SECRET}", "a\x85b"]
WAYS = {
    "settings": lambda given: setattr(together_nb.settings, "default_headers", given),
    "Session": lambda given: together_nb.Session(default_headers=given),
    "complete": lambda given: together_nb.complete("Tell", model="m", api="chat", default_headers=given),
    "stream": lambda given: together_nb.stream("Tell", default_headers=given),
    "compare": lambda given: together_nb.compare("Tell", temperature=[0, 1], default_headers=given),
    "map_prompts": lambda given: together_nb.map_prompts(["Tell"], progress=False, default_headers=given),
    "models": lambda given: together_nb.models(default_headers=given),
}
OTHERS = [None, 5, True, SECRET.encode(), [SECRET], {"a": SECRET}]


@pytest.mark.parametrize(
    "given",
    [
        *({name: SECRET} for name in (*NO_NAMES, *OURS.split())),
        *({"api-key": value} for value in (*NO_VALUES, *OTHERS)),
        *(SECRET, [("api-key", SECRET)], {SECRET}, 5, b"a"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("send", WAYS.values(), ids=WAYS)
def test_what_cannot_be_sent_is_refused_before_anything_is_sent_and_no_value_is_shown(given, send):
    with pytest.raises(InputError) as caught:
        send(given)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in frames.stack if "together_nb/" in frame.filename]
    assert ours
    assert SECRET not in f"{caught.value} {[frame.locals for frame in ours]}"
    assert together_nb.settings.default_headers is None


def test_headers_do_not_show_themselves():
    headers = Headers({"api-key": SECRET, "x-portkey-provider": "openai"})
    assert repr(headers) == "<headers api-key, x-portkey-provider, values hidden>"
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            write(headers)
    assert repr(headers.reveal()["x-portkey-provider"]) == "<hidden>"
    assert secret_test()(headers)
    together_nb.settings.default_headers = {"api-key": SECRET}
    assert SECRET not in f"{together_nb.settings!r} {vars(together_nb.settings)} {together_nb.settings.trait_values()}"


def test_they_are_no_setting_of_config():
    assert "default_headers" not in together_nb.settings.traits()


def test_they_belong_to_the_server_in_use_when_they_are_set_until_they_are_forgotten():
    settings = together_nb.settings
    settings.base_url = HERE
    settings.default_headers = {"api-key": SECRET}
    assert settings.default_headers.reveal() == {"api-key": SECRET}
    assert settings.headers_for("https://GATEWAY.example:443/other").names == ("api-key",)
    others = ["http://gateway.example", "https://gateway.example:8443", "https://gateway.example.evil", ELSEWHERE]
    assert not any(map(settings.headers_for, others))
    settings.base_url = ELSEWHERE
    assert settings.default_headers is None
    settings.default_headers = {"X-Other": "1"}
    assert settings.copy().default_headers.names == ("x-other",)
    settings.base_url = HERE
    settings.default_headers = {"X-New": "1"}  # in the place of all that were set for it
    assert settings.default_headers.names == ("x-new",)
    settings.default_headers = {}
    assert settings.default_headers is None
    settings.default_headers = None
    settings.base_url = ELSEWHERE
    assert settings.default_headers is None


def test_observers_learn_that_headers_changed_and_not_which():
    seen = []
    together_nb.settings.observe(seen.append, names="api_key")
    together_nb.settings.default_headers = {"api-key": SECRET}
    together_nb.settings.default_headers = None
    assert [(change["old"], change["new"]) for change in seen] == [(None, None)] * 2


# The name, the value, what of it a text loses; and where such a header is described.
FOUND = [
    ("api-key", "0f1e2d3c4b5a69788796a5b4c3d2e1f0", None, "https://github.com/marimo-team/marimo/pull/3120"),
    ("api-key", "correct-horse-battery-staple", None, ""),
    ("Ocp-Apim-Subscription-Key", "9f8e7d6c", None, "https://github.com/openai/openai-python/issues/740"),
    ("Authorization", f"Bearer {SECRET}", SECRET, "https://github.com/openai/openai-python/issues/740"),
    ("x-portkey-api-key", "pk-secrets1", None, "https://github.com/promptfoo/promptfoo/pull/10536"),
    ("x-portkey-virtual-key", "openai-virtual-a1b2c3", None, "https://github.com/Aider-AI/aider/issues/2755"),
    ("x-portkey-config", f'{{"provider":"openai","api_key":"{SECRET}"}}', SECRET,
     "https://github.com/evalstate/fast-agent/pull/544"),
    ("cf-aig-authorization", f"Bearer {SECRET}", SECRET, "https://github.com/cjpais/Handy/issues/485"),
    ("CF-Access-Client-Secret", "of-the-lesson", None, "https://github.com/Realiserad/fish-ai/pull/462"),
    ("CF-Access-Client-Id", "5f2c8a7e91b04d36.access", None, "https://github.com/Realiserad/fish-ai/pull/462"),
    ("Helicone-Auth", f"Bearer {SECRET}", SECRET, ""),
    ("X-Access-Token", "letmein123", None, ""),
    ("x-gateway", SECRET, None, ""),
    ("x-api-key", "correct horse battery staple", None, ""),
    ("x-api-key", "one  two\tthree four", None, ""),
    ("x-api-key", "one  two\tthree five", "one two three five", ""),  # as an error's message has it
    ("Authorization", "Basic correct horse battery", "correct horse battery", ""),
    ("X-SecretKey", "correcthorsebattery", None, ""),
    ("x-secret-key", "correcthorsebattery", None, ""),
    ("X-ClientSecret", "correcthorsebattery", None, ""),
    ("X-MyApiKeyValue", "correcthorsebattery", None, ""),
    ("x-cache-api-key", "correcthorsebattery", None, ""),
    ("x-portkey-config", '{"provider":"openai","api_key":"correcthorsebattery"}', "correcthorsebattery", ""),
    ("x-portkey-config", '{"targets": [{"apiKey": "correct horse battery"}]}', "correct horse battery", ""),
    ("x-config", '{"credentials": {"user": "Ada", "value": "one\\ntwo three"}}', "one\ntwo three", ""),
    ("x-config", "provider=openai; api_key=correcthorsebattery", "correcthorsebattery", ""),
    ("x-gateway", "lesson-0123456789", None, ""),
    ("x-trace", "550e8400-e29b-41d4-a716-446655440000", None, ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "secret", "source"), FOUND, ids=[f"{one[0]} {one[1]}" for one in FOUND])
def test_a_value_that_is_a_secret_is_taken_out_of_texts(name, value, secret, source):
    assert source == "" or source.startswith("https://")
    Headers({name: value})
    secret = secret or value
    assert without_keys(f'It is "{secret}", not {secret}.') == 'It is "…", not ….'


HARMLESS = [
    ("x-portkey-provider", "openai", "https://github.com/Portkey-AI/portkey-python-sdk/issues/134"),
    ("x-portkey-provider", "anthropic", ""),
    ("x-portkey-provider", "azure-openai", ""),
    ("x-portkey-debug", "false", "https://github.com/stackblitz-labs/bolt.diy/pull/1789"),
    ("x-portkey-azure-api-version", "2024-02-15-preview", "https://github.com/Portkey-AI/portkey-node-sdk/pull/79"),
    ("x-portkey-custom-host", "http://127.0.0.1:8000/v1", ""),
    ("anthropic-beta", "prompt-caching-2024-07-31", "https://github.com/Portkey-AI/portkey-python-sdk/issues/185"),
    ("HTTP-Referer", "https://localhost:3000/", "https://github.com/enricoros/big-AGI/issues/156"),
    ("X-Title", "A lesson on probabilities", "https://github.com/openinterpreter/openinterpreter/issues/718"),
    ("x-portkey-metadata", '{"_user": "Ada", "lesson": "probabilities"}', ""),
    ("x-author", "Lovelace", ""),
    ("x-cache-key", "probability", ""),
    ("x-prompt-cache-key", "probability", ""),
    ("x-partition-key", "probability", ""),
    ("Idempotency-Key", "probability", ""),
    ("X-RoutingKey", "probability", ""),
    ("x-auth-type", "service-account", ""),
    ("x-portkey-config", '{"provider": "openai", "cache_key": "probability"}', ""),
    ("x-portkey-config", "[" * 20_000 + "]" * 20_000, ""),
    ("x-keyboard", "Dvorak layout", ""),
    ("api-key", "EMPTY", ""),
    ("Authorization", "Bearer EMPTY", ""),
]


@pytest.mark.parametrize(("name", "value", "source"), HARMLESS, ids=[f"{one[0]} {one[1][:60]}" for one in HARMLESS])
def test_a_value_that_is_no_secret_removes_no_word_of_an_answer(name, value, source):
    assert source == "" or source.startswith("https://")
    Headers({name: value})
    text = f"{value}: openai, Bearer, anthropic, http://127.0.0.1:8000, in 2024-02-15. {value.split()[-1]}"
    assert without_keys(text).replace("Bearer …", "Bearer EMPTY") == text


@pytest.mark.parametrize(
    ("name", "value"), [("api-key", "schlüssel-für-gärten-77"), ("x-config", '{"api_key": "schl\\u00fcssel-77"}')]
)
def test_a_secret_beyond_ascii_is_refused(name, value):
    with pytest.raises(
        InputError, match=rf"^The secret in {name} of default_headers has characters beyond ASCII"
    ) as told:
        Headers({name: value})
    assert "ssel" not in str(told.value)


def test_headers_that_are_none_are_for_no_server():
    together_nb.settings.base_url = HERE
    together_nb.settings.default_headers = {}
    assert together_nb.settings.other_headers(ELSEWHERE) == ""


def test_what_was_given_once_stays_out_of_texts():
    together_nb.settings.default_headers = {"api-key": SECRET}
    together_nb.settings.default_headers = None
    assert SECRET not in without_keys(f"{SECRET} {SECRET[5:20]}")
    assert [key.source for key in known_keys()] == ["the header api-key"]
