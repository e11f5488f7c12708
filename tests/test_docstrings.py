"""The docstrings: numpydoc accepts them, their examples run, and `help` and ``?`` show what a new user needs."""

from __future__ import annotations

import doctest
import inspect
import pydoc
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module

import pytest
from IPython.core.interactiveshell import InteractiveShell
from numpydoc.validate import validate

import together_nb
from tests.generate import in_words, stale
from tests.magic.test_magics import ipython
from tests.servers import ScriptedServer, answers
from together_nb import errors
from together_nb.config.settings import Settings
from together_nb.local.ngram import NgramModel, default_model
from together_nb.local.server import LocalServer
from together_nb.magic import TogetherMagics
from together_nb.magic.commands import COMMANDS
from together_nb.run.ledger import Spent
from together_nb.run.options import parser
from together_nb.values.chunk import Timings
from together_nb.values.parameters import PARAMETERS

# numpydoc's: no docstring, unknown or misplaced sections, no summary or one without a capital or a period; parameters
# that are missing, unknown, out of order, or without type or description; no Returns where something is returned, or
# no description there; no Yields.
CHECKS = {
    "GL03", "GL05", "GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS06", "PR01", "PR02", "PR03", "PR04",
    "PR05", "PR06", "PR07", "PR08", "PR09", "PR10", "RT01", "RT02", "RT03", "RT04", "RT05", "YD01",
}  # fmt: skip


def subclasses(error):
    return [error, *(kind for sub in error.__subclasses__() for kind in subclasses(sub))]


def class_of(value):
    """The class that stands in a module: traitlets makes one for each object."""
    return next(cls for cls in type(value).__mro__ if getattr(import_module(cls.__module__), cls.__name__, None) is cls)


def public_objects():
    """Functions and classes that are public, by their full names."""
    public = [getattr(together_nb, name) for name in together_nb.__all__]
    objects = [value for value in public if inspect.isclass(value) or inspect.isfunction(value)]
    objects += [class_of(value) for value in public if type(value).__module__.startswith("together_nb")]
    # An error with the parameters of its base is described in a line.
    errors_of_ours = [kind for kind in subclasses(errors.TogetherError) if kind.__module__.startswith("together_nb")]
    objects += [kind for kind in errors_of_ours if "__init__" in vars(kind)]
    objects += [Timings, Spent, LocalServer, NgramModel, default_model, TogetherMagics]
    return {f"{value.__module__}.{value.__qualname__}": value for value in objects}


def members(cls):
    """The public functions and properties of a class and of its bases that are ours."""
    for base in reversed([one for one in cls.__mro__ if one.__module__.startswith("together_nb")]):
        for name, value in vars(base).items():
            plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                yield f"{base.__module__}.{base.__qualname__}.{name}", plain


OBJECTS = public_objects()
ALL = OBJECTS | {name: value for cls in OBJECTS.values() if inspect.isclass(cls) for name, value in members(cls)}
SAMPLERS = [
    name
    for name, value in ALL.items()
    if callable(value)
    for parameter in inspect.signature(value).parameters.values()
    if parameter.kind is parameter.VAR_KEYWORD and parameter.name in ("sampling", "defaults")
]
EXAMPLES = [name for name, value in ALL.items() if ">>>" in (value.__doc__ or "")]


@pytest.mark.parametrize("name", ALL)
def test_numpydoc_accepts_the_docstring(name):
    assert [error for error in validate(name)["errors"] if error[0] in CHECKS] == []
    assert "As for `" not in inspect.getdoc(ALL[name])


@pytest.mark.parametrize(
    "name", [*SAMPLERS, "together_nb.values.parameters.SamplingParams", "together_nb.config.settings.Settings"]
)
def test_all_sampling_parameters_are_listed_with_meaning_and_bounds(name):
    text = " ".join(pydoc.plain(pydoc.render_doc(ALL[name])).replace("|", " ").split())
    for parameter in PARAMETERS.values():
        expected = parameter.expected[0].upper() + parameter.expected[1:]
        assert f"{parameter.name} : " in text
        assert f"{parameter.help} {expected}." in text


def test_the_functions_that_take_sampling_parameters_say_so():
    names = {name.rpartition(".")[2] for name in SAMPLERS}
    assert names == {"stream", "complete", "compare", "map_prompts", "continue_from", "Panel"}


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("Iterable[dict[str, Any]] | None", "iterable of dict or None"),
        ("tuple[tuple[str, float], ...]", "tuple of tuple of (str, float)"),
        ("dict[str, list[Token]]", "dict of str to list of Token"),
        ("Iterator[generation.Generated]", "iterator of Generated"),
        ("Any", "object"),
    ],
)
def test_annotations_become_words(annotation, words):
    assert in_words(annotation) == words


def test_what_comes_from_declarations_is_as_they_are_now():
    assert stale() == [], "run python -m tests.generate"


WITHOUT = """
import sys
import together_nb
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "together_nb")
shell.run_line_magic("reload_ext", "together_nb")
print([type(one).__name__ for one in shell.configurables].count("TogetherMagics"))  # -O leaves out what is asserted
print(together_nb.stream.__doc__)
print(together_nb.complete("Alan Turing was", max_tokens=3).usage.completion_tokens)
for name in together_nb.__all__:
    getattr(together_nb, name)
print("--temperature" in shell.object_inspect("%%together")["docstring"])
"""


def test_everything_works_without_docstrings_and_a_reload_leaves_one_of_each(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    command = [sys.executable, "-OO", "-W", "ignore", "-c", WITHOUT]
    assert subprocess.check_output(command, text=True, cwd=tmp_path) == "1\nNone\n3\nTrue\n"


def test_the_package_describes_every_public_name_and_no_other_and_every_function_has_an_example():
    assert set(re.findall(r"^    (\w+) {2,}\S.*\.$", together_nb.__doc__, re.MULTILINE)) == set(together_nb.__all__)
    functions = [getattr(together_nb, name) for name in together_nb.__all__]
    assert [one.__name__ for one in functions if inspect.isfunction(one) and ">>>" not in one.__doc__] == []


@pytest.mark.parametrize("name", [*EXAMPLES, "together_nb"])
def test_the_examples_run_without_a_key(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()  # in IPython answers are drawn
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(ALL.get(name, together_nb)), {}, name, None, None)
    output = []
    with ipython() if "load_ipython_extension" in name else nullcontext():
        doctest.DocTestRunner(verbose=False).run(test, out=output.append)
    assert output == []


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


@pytest.mark.parametrize("name", ["%%together", "%together"])
def test_the_magics_show_what_a_new_user_needs(shell, name):
    text = shell.object_inspect(name)["docstring"]
    words = " ".join(text.split())
    for option in parser().spellings():
        assert re.search(rf"^  (-\w( \S+)?, )?{option}\b", text, re.MULTILINE), option
    assert [one.name for one in PARAMETERS.values() if f"{one.help} ({one.expected})" not in words] == []
    for command in COMMANDS.values():
        assert re.search(rf"^  {re.escape(command.typed) or '.+'} +{re.escape(command.help)}$", text, re.MULTILINE)
    for word in ("_together", "%together login", "TOGETHER_API_KEY", "%config TogetherMagics", "help(together_nb)"):
        assert word in words


def test_the_examples_of_the_help_run_as_they_stand(shell):
    text = shell.object_inspect("%%together")["docstring"]
    examples = text.partition("\nexamples:\n")[2].partition("\nEach is a cell")[0]
    cells = [re.sub(r"^  ", "", cell, flags=re.MULTILINE).strip("\n") for cell in examples.split("\n\n")]
    shell.run_cell("hero = 'Ada'\n" + re.search(r"^  (person = .*)$", text, re.MULTILINE)[1]).raise_error()
    with ScriptedServer(answers(['{"name": "Ada"}'])) as server:
        for cell in cells:
            takes_schemas = (server.base_url, "test/chat") if "--schema" in cell else ("", "")  # the toy takes none
            together_nb.settings.base_url, together_nb.settings.model = takes_schemas
            shell.run_cell(cell).raise_error()
    names = shell.user_ns
    assert names["story"].filled == ("hero",)
    assert len(names["both"]) == 2
    assert names["told"].parsed == {"name": "Ada"}
    assert names["_together"] is names["run"].result()


def test_settings_shows_every_trait_with_its_help(shell):
    shell.run_cell("from together_nb import settings").raise_error()
    docstring = shell.object_inspect("settings")["docstring"]
    assert docstring == inspect.getdoc(Settings)
    for name, trait in together_nb.settings.traits().items():
        assert f"{name} : " in docstring
        assert re.sub(r" \(.*\)$", "", trait.help) in " ".join(docstring.split())
