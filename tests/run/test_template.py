"""Names filled in in a prompt, and every other brace left alone."""

from __future__ import annotations

import collections
import copy
import json
import math
import os
import re
import subprocess
import sys
from types import MappingProxyType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from together_nb.errors import InputError
from together_nb.run.template import Filler, fill, variable


class Person:
    def method(self):
        return "called"


NAMES = {
    "hero": "Ada", "größe": 3, "zero": 0, "empty": "", "nothing": None, "fi": 1, "\u03bc": 2, "a": "A", "b": "B",
    "braces": "{hero} {{hero}}", "backslashes": r"\1 \g<0>", "math": math, "json": json, "f": len, "C": Person,
    "person": SimpleNamespace(name="Alan", friend=SimpleNamespace(name="Joan"), _secret="key"),
    "d": {"key": "by word", "two words": "by text", 3: "by number", "3": "by digit's text", "nested": {"k": [1, 2]}},
    "row": ["first", "second"], "In": ["", "1 + 1", "2 + 2", "print('hi')"], "Out": {3: 4},
    "made": Person(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "sent", "filled"),
    [
        ("Tell of {hero}.", "Tell of Ada.", ("hero",)), ("{hero}{zero}", "Ada0", ("hero", "zero")),
        ("{hero} and {zero} and {hero}", "Ada and 0 and Ada", ("hero", "zero")),
        ("{größe}", "3", ("größe",)), ("[{empty}]", "[]", ("empty",)), ("{nothing}", "None", ("nothing",)),
        ("{person.name} {person.friend.name}", "Alan Joan", ("person.name", "person.friend.name")),
        ("{d[key]} {d['two words']} {d[\"key\"]}", "by word by text by word", ("d[key]", "d['two words']", 'd["key"]')),
        ("{d[3]} {d['3']}", "by number by digit's text", ("d[3]", "d['3']")),
        ("{d[nested][k][1]}", "2", ("d[nested][k][1]",)), ("{row[0]} {row[-1]}", "first second", ("row[0]", "row[-1]")),
        ("{In[3]} gave {Out[3]}", "print('hi') gave 4", ("In[3]", "Out[3]")),
        ("{braces} {hero}", "{hero} {{hero}} Ada", ("braces", "hero")),  # a value is not expanded again
        ("{backslashes}", r"\1 \g<0>", ("backslashes",)),
        ("{math} {math.pi}", "{math} 3.141592653589793", ("math.pi",)),
        ("{\ufb01} {\u00b5}", "1 2", ("\ufb01", "\u00b5")),  # looked up as Python spells it
    ],
)  # fmt: skip
def test_a_defined_name_is_filled_in_and_named_once(typed, sent, filled):
    assert fill(typed, NAMES) == (sent, filled)


@pytest.mark.parametrize(
    "typed",
    [
        "{unknown}", "{person.unknown}", "{d[unknown]}", "{row[9]}", "{hero.name}", "{unknown.name[3]}", "{}", "{0}",
        '{"hero": "a", "b": {"c": [1, {}]}}', "{hero: 1}", "{ hero }", "{hero, zero}", "{hero!r}", "{hero:x}",
        r"\frac{1}{2} \mathbb{R} \begin{align} x^{2} \end{align}", "f'{hero!r} {hero:>10} {zero + 1}'", "{hero\n}",
        "{{hero}} {{ hero }} {% if hero %} {# hero #}", "{{{hero}}}", "{{hero}", "{hero}}", "${{hero}}", "{d['a\nb']}",
        "{row[0:1]}", "{row[zero]}", "{row[]}", "{d[key}", "{d.key}", "{f}", "{f(1)}", "{C}", "{json}", "{made.method}",
        "{person._secret}", "{__import__}", r"\frac{a}{a}", r"\text{a}", "e^{a}", r"\sqrt{a} + \left{a}",
    ],
)  # fmt: skip
def test_every_other_brace_stays_as_typed(typed):
    assert fill(typed, NAMES) == (typed, ())


def test_only_the_users_interrupt_comes_through():
    class Slow:
        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill("{slow}", {"slow": Slow()})


@given(st.text(alphabet="{}[]. abhero'\"0\n"))
def test_without_names_any_text_stays_as_it_is(text):
    assert fill(text, {}) == (text, ())


@given(st.text(alphabet="{}[].ab "), st.text())
def test_text_outside_the_braces_stays_and_nothing_is_expanded_twice(typed, value):
    sent, filled = fill(typed, {"a": value})
    assert filled in ((), ("a",))
    assert (value.join(typed.split("{a}")) == sent) or "{{a}" in typed or "{a}}" in typed
    assert bool(filled) or sent == typed


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        *((name, name) for name in ("answer", "_x", "größe", "match")), ("\ufb01", "fi"),
        *((name, None) for name in ("", "1x", "a b", "a.b", "a[0]", "a-b", "class", "None", "True", "lambda", " x")),
        *((name, None) for name in ("print", "In", "Out", "__debug__", "get_ipython")),
    ],
)  # fmt: skip
def test_a_variables_name_is_spelled_as_python_does_or_is_none(name, spelled):
    assert variable(name) == spelled


CODE = {"code": "x = 1\ny = 2", "user": "ada", "password": "hunter2", "host": "db"}


@pytest.mark.parametrize(
    "typed",
    [
        # All of a piece of code:
        "```python\n{code}\n```", "~~~\n\n  {code}  \n\n~~~", "   ````\n{user}\n   `````", "```\r\n{user}\r\n```",
        "```\n{user}", "> ```\n> {user}\n> ```", "1. Look:\n   ```\n{code}\n   ```",
        "1. Look:\n\n   ```\n   {user}\n   ```", "What is `{user}` or `` {user} `` or `\n{user}\n`?",
        "Look:\n\n    {user}\n\nand\n\n\t{user}\n",
        # In no code:
        "Say \"{user}\", '{user}' and ({user}).", "It's {user}'s, isn't it, \"{user}\"?",
        "If f'(x) = {user} and g'(x) = {host}", "If f' = {user} and g' = {host}, then",
        "rotate t' by {user} and x' by {host}", 'Name a word with "f" and {user}, as "fun".', "```\na\n```\n{user}",
        "> ```\n> a\n{user}", "One ` alone, {user}", "One ` alone\n\n{user} and another `", "`` {user} `",
        "\\`{user} is no code`", "`a` {user} `b`", "Text goes on\n    {user} here", "- point\n\n    of {user}",
        "``` is no ` fence {user}", "<doc>\n{user}!\n</doc>",
    ],
)  # fmt: skip
def test_a_name_that_is_all_of_a_piece_of_code_or_in_no_code_is_filled_in(typed):
    assert fill(typed, CODE)[0] == re.sub(r"\{(\w+)\}", lambda name: CODE[name[1]], typed)


@pytest.mark.parametrize(
    "code",
    [
        '```python\nconnect(f"postgresql://{user}:{password}@{host}")\n```', "```\n{user} {password}\n```",
        "```\n{user}\n{password}\n```", "```\nprint({password})", "~~~ {user}\n{password};\n~~~",
        "```{user}\npass\n```", "~~~\n```\n{password};\n```\n~~~", "````\n```\n{user}!\n```\n````",
        "```\n    ```\n{user}!\n```", "```\n``` {user}\n{user}!\n```", "  ```\n{user}!\n   ```",
        "> ```\n> x = {user}\n> ```", "> > ~~~\n> > {user}!", "- ```\n  x = {user}\n  ```",
        "1. Look:\n\n   ~~~\n   x = {user}\n\n   {user}\n   ~~~", "- > ```\n  > {user}!\n  > ```",
        "1. Look:\n   ```\nx = {user}\n   ```", "- ```\nx = {user}\n\n{user}!\n```",
        "- ```\n  x\ny = {user}!\r\n  ```\r\n", "> ```\n> a\n\nText\n```\nx = {user}\n```", "`f({user})`",
        "``{user} ` {user}``", "`a\nb {user}`", "> `a\n> {user}`", "# `a {user}`", "\\\\`f({user})`",
        "`\\` and `f({user})`", '"postgresql://{user}:{password}@{host}".format(user=me)',
        '"""\n{password}\n""".format(**locals())', "('{user}'\n).format_map(d)",
        'f"postgresql://{user}:{password}@{host}"', "x = F'{user}' + rf\"{user}\" + fR'{user}'",
        'f"""\n{user}\n\n{password}"""', 'print("a", f"{user}")', 'd["k"] = f"{user}"', '{"k": f"{user}"}',
        '"a" + f"{user}"', "x['a'], f'{user}'", '"a"f"{user}"', "x = f' {user}'", 'print(f"{d["k"]} {user}")',
        "f'{d['k']} {user}'", r'f"\"{user}"', "f'{user}'f'{password}'", "t'{user}'", 'lambda: f"`{user}`"',
    ],
)  # fmt: skip
def test_other_braces_in_code_stay_as_typed(code):
    assert fill(code, CODE) == (code, ())
    assert fill(f"{code}\n", CODE) == (f"{code}\n", ())


def test_one_name_can_stand_in_code_and_out_of_it():
    assert fill('f"{user}" is {user}', CODE) == ('f"{user}" is ada', ("user",))


def test_an_items_names_are_filled_in_in_code_too():
    typed = "```\nf({item}, {user}, {password})\n``` and `{item}!` and f'{user}'"
    sent = "```\nf(x, its, {password})\n``` and `x!` and f'its'"
    assert Filler(CODE, {"item": "x", "user": "its"}).fill(typed) == (sent, ("item", "user"))


@pytest.mark.parametrize(
    "typed",
    [
        "{os}", "{os.environ}", "{os.environ['VARIABLE_1']}", "{held.os}", "{held.os.environ[VARIABLE_1]}",
        "{held.environ}", "{held.environ[VARIABLE_1]}", "{env}", "{env[VARIABLE_1]}", "{copy}", "{more}", "{within}",
        "{text}", "{pairs}", "{values}", "{again}", "{again[VARIABLE_1]}", "{g}", "{g[hero]}", "{json_names}",
        "{json_names[__name__]}", "{In}", "{Out}", "{_ih}", "{_oh}", "{_dh}", "{inputs}", "{outputs}", "{_i}", "{_ii}",
        "{_i3}", "{exit}", "{quit}", "{get_ipython}", "{__builtins__}", "{__name__}", "{__x}",
    ],
)  # fmt: skip
def test_what_is_no_text_of_the_users_is_never_filled_in(typed, monkeypatch):
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for number in range(9):
        monkeypatch.setenv(f"VARIABLE_{number}", f"value {number}")
    names = {
        "os": os, "env": os.environ, "held": SimpleNamespace(os=os, environ=os.environ), "copy": dict(os.environ),
        "more": {**os.environ, "own": "x"}, "within": [os.environ], "text": json.dumps(dict(os.environ), indent=1),
        "pairs": list(os.environ.items()), "again": copy.copy(os.environ),  # noqa: PLW1507
        "values": list(os.environ.values()), "hero": "Ada", "json_names": vars(json),
        "In": ["", "a"], "Out": {1: 2}, "_dh": ["/"], "_i": "a", "_ii": "a", "_i3": "a",
        "exit": "x", "quit": "x", "get_ipython": "x", "__builtins__": "x", "__name__": "x", "__x": "x",
    }  # fmt: skip
    names |= {"g": names, "_ih": names["In"], "_oh": names["Out"], "inputs": names["In"], "outputs": names["Out"]}
    text = f"{typed} `{typed}` {{its.environ}}"
    assert Filler(names, {"its": os}).fill(text) == (text, ())
    assert fill("{copy[VARIABLE_1]} {In[1]} {Out[1]} {hero}", names)[0] == "value 1 a 2 Ada"


def test_a_secret_is_never_filled_in_nor_what_it_leads_to():
    class Secret:
        ending = "9"

    def is_secret(value):
        return isinstance(value, Secret) or (isinstance(value, str) and "sk-1" in value)

    names = {"key": "sk-123", "bytes": b"sk-123", "held": {"k": ["sk-123"]}, "secret": Secret(), "fine": "sk-2"}
    typed = "{key} {key[1]} {bytes} {held} {held[k][0]} {secret} {secret.ending} "
    assert Filler(names, names, is_secret=is_secret).fill(f"{typed}{{fine}}") == (f"{typed}sk-2", ("fine",))


@pytest.mark.parametrize(
    "error", [SystemExit, GeneratorExit, RecursionError, MemoryError, BaseException, InputError("No.")]
)
def test_whatever_a_value_raises_its_name_stays_as_typed(error):
    def fail(*_):
        raise error

    kinds = ("__str__", "__getattr__", "__getitem__", "__len__", "__contains__")
    broken = type("Broken", (), {**dict.fromkeys(kinds, fail), "name": property(fail)})()
    typed = "{broken} {broken.name} {broken.other} {broken[0]} {broken[k]} "
    assert fill(f"{typed}{{hero}}", {"broken": broken, "hero": "Ada"}) == (f"{typed}Ada", ("hero",))


def test_a_lookup_changes_nothing():
    counted = collections.defaultdict(list, a=1)
    names = collections.defaultdict(list)
    names |= {"d": counted, "proxy": MappingProxyType(counted), "chain": collections.ChainMap(counted)}
    names["numbers"] = (one for one in "ab")
    typed = "{d[x]} {proxy[x]} {chain[x]} {x} {numbers[0]} {numbers.x}"
    assert fill(f"{{d[a]}} {typed} {{numbers}}", names)[0].startswith(f"1 {typed} <generator")
    assert (dict(counted), "x" in names, list(names["numbers"])) == ({"a": 1}, False, ["a", "b"])


def test_a_text_of_another_class_is_filled_in_as_a_plain_one():
    class Loud(str):
        __slots__ = ()

        def __str__(self):
            return self

        def __len__(self):
            return 10**9

    sent, _ = Filler({"loud": Loud("hey")}, limit=10).fill("{loud}")
    assert (sent, type(sent)) == ("hey", str)


class Endless:
    def __init__(self):
        self.asked = 0

    def __str__(self):
        self.asked += 1
        return "x" * 60


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("{long}", "{long} is 101 "), ("{many}", "{many} is 1,000 "), ("{some} {some}", "is 120 "),
        ("{some}" * 1000, "is 120 "),
    ],
)  # fmt: skip
def test_more_than_the_limit_is_refused_with_its_length_and_the_limit(typed, told):
    names = {"long": "x" * 101, "many": [None] * 1000, "some": Endless()}
    with pytest.raises(InputError) as refused:
        Filler(names, limit=100).fill(typed)
    assert told in refused.value.message
    assert "100" in refused.value.message.replace(told, "")
    assert "fill_limit" in refused.value.hint


def test_as_much_as_the_limit_is_filled_in_and_each_value_is_asked_for_once():
    some = Endless()
    assert Filler({"some": some}, limit=120).fill("{some}{some}") == ("x" * 120, ("some",))
    assert some.asked == 1
    # Where it stays, it counts nothing.
    assert Filler({"some": some}, limit=10).fill("`a {some}`") == ("`a {some}`", ())


def test_a_long_prompt_takes_no_longer_than_its_length():
    pieces = [
        "` ", "> ", "- ", "- ```\na\n", "- ~~~\n>b\n", "'", 'f"}{', '"\\', "\\`", "{a['", "~~~\n", "\n\n    a", "-",
        "f'''(", "{'}", "('\"f",
    ]  # fmt: skip
    code = f"""
from together_nb.run.template import fill
for piece in {pieces!r}:
    fill("{{x}}\\n\\n" + piece * (100_000 // len(piece)) + "\\n\\n{{x}} ", dict(x=1))
"""
    if sys.platform != "win32":
        code = f"import resource\nresource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n{code}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
