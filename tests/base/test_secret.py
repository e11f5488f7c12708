"""A key is taken out of texts by how long it is: it takes no words along, whatever it is."""

from __future__ import annotations

import itertools
import json
import random
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.base.secret import Secret, is_placeholder
from together_nb.config.keys import Key

RANDOM = "Zq7xWd9vKf3/Lm5tRt8+Yb2nNc6=Hj4kUv0pXe1s"
WORDS = "my-local-development-server-key"
PLACEHOLDERS = """
EMPTY empty test none None null dummy sk-no-key-required not-needed NOT_NEEDED no-key lm-studio ollama token-abc123
your-api-key YOUR_API_KEY_HERE sk-xxxxxxxxxxxxxxxxxxxxxxxx changeme anything fake-key x 1 {" sk-1234 test-key
"""
MADE_OF_WORDS = f"""
{WORDS} {WORDS.upper()} mylocaldevelopmentserverkey MyLocalDevelopmentServerKey local_development_server_1234
development12345678 the-organization-password-for-testing
"""


def without(key, text):
    return Key(key, "a test").blanked(text)


@pytest.mark.parametrize("key", PLACEHOLDERS.split())
def test_a_placeholder_and_a_short_key_go_only_after_bearer(key):
    text = f'{key} is a {key}, {{"{key}": ["{key}"]}}, api_key={key} /{key}/'
    assert without(key, text) == text
    for bearer in ("Bearer ", "bearer  ", "BEARER\t", "Bearer\n", "Authorization: Bearer "):
        assert without(key, f"{text} {bearer}{key}.") == f"{text} {bearer}…."
    assert without(key, f"Bearer {key}more") == f"Bearer {key}more"


@pytest.mark.parametrize("key", ["messages", "together_nb", "12345678", "passw0rd", "a/b\\c\"d'e", "/abcdefg"])
def test_a_key_of_8_to_15_characters_goes_as_a_whole_word(key):
    assert without(key, f"({key}) {key}. «{key}»\n{key}") == "(…) …. «…»\n…"
    if key.isalnum():
        for around in (f"my{key}", f"{key}s", f"_{key}", f"9{key}"):
            assert without(key, around) == around


@pytest.mark.parametrize("text", [f"key={RANDOM};", RANDOM[:12], RANDOM[-8:], f"…{RANDOM[9:17]}", RANDOM * 2])
def test_of_a_long_key_pieces_go_too(text):
    found = without(RANDOM, text)
    assert not any(RANDOM[at : at + 8] in found for at in range(len(RANDOM) - 7))
    assert "…" in found


def test_what_a_key_costs_changes_at_8_and_at_16_characters():
    assert [without(RANDOM[:n], f"{RANDOM[:n]} {RANDOM[1:13]}") for n in (7, 8, 15, 16)] == [
        f"{RANDOM[:7]} {RANDOM[1:13]}", f"… {RANDOM[1:13]}", f"… {RANDOM[1:13]}", "… …",
    ]  # fmt: skip


@pytest.mark.parametrize("length", [8, 9, 12])
def test_the_ends_of_a_random_key_are_never_shown(length):
    dice = random.Random(7)
    for alphabet in (string.ascii_letters + string.digits, "0123456789abcdef", string.ascii_lowercase + string.digits):
        shown = 0
        for prefix in ("sk-", "sk-proj-", "tgp_v1_", "") * 100:
            secret = "".join(dice.choices(alphabet, k=32))
            found = without(prefix + secret, f"Incorrect API key: {secret[:length]}*****{secret[-length:]}")
            shown += secret[:length] in found or secret[-length:] in found
        assert shown <= 2  # of 400: chance may write a word


@pytest.mark.parametrize("key", MADE_OF_WORDS.split())
def test_words_are_kept_though_the_key_is_made_of_them(key):
    text = "the Development of a local development server, my local password for testing, DEVELOPMENT, organization"
    assert without(key, text) == text
    assert without(key, f"{text} {key}") == f"{text} …"
    assert without(key, f"{text} {key[:-2]}").endswith("…")  # most of it


@pytest.mark.parametrize("key", [RANDOM, 'key-"quoted"-0123456789', "sl/ash\\es0", "12345678", WORDS])
def test_it_is_found_however_json_and_urls_spell_it(key):
    for spelled in (
        json.dumps(key)[1:-1],
        json.dumps(json.dumps(key))[1:-1],
        json.dumps(key)[1:-1].replace("/", "\\/"),
        "".join(f"\\u{ord(one):04x}" for one in key),
        "".join(f"\\u{ord(one):04X}" for one in key),
        quote(key, safe=""),
        "".join(f"%{ord(one):02x}" for one in key),
    ):
        assert without(key, f"a\\n{spelled}\\n") in ("a\\n…\\n", 'a\\n\\"…\\"\\n')


KEYS = st.one_of(
    st.sampled_from([RANDOM, WORDS, "12345678", "messages", "x", "EMPTY", "a" * 40, "ab" * 10]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40),
)


@given(KEYS, st.lists(st.sampled_from([*'ab "\\%u0x/.', "Bearer ", "\\n", "\\u0061", "%41", "KEY"]), max_size=30))
def test_what_is_left_has_nothing_of_it_any_more_and_all_else_is_kept(key, parts):
    text = "".join(key if part == "KEY" else part for part in parts)
    spans = Secret(key).spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    left = without(key, text)
    assert len(key) < 16 or is_placeholder(key) or key not in left
    assert without(key, left) == left


@pytest.mark.parametrize("key", ["a" * 1_000, "ab" * 500, RANDOM * 25, "a" * 12, RANDOM, WORDS, "x"])
def test_it_takes_time_in_proportion_to_the_text(key):
    slices = []

    class Counted(str):
        __slots__ = ()

        def __getitem__(self, place):
            slices.append(place)
            return str.__getitem__(self, place)

    for text in ("a" * 6_000, (key * 6_000)[:6_000], "bearer " * 800):
        slices.clear()
        Secret(key).spans(Counted(text))
        assert len(slices) < 8 * len(text)
