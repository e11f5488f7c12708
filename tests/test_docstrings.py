"""The docstrings: whoever has `help` and `?` alone finds every name, with types, units, errors and examples that run.

numpydoc checks their form. What it does not see is checked here against the code: types against the
annotations, errors against what is raised on the way.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import functools
import inspect
import io
import pydoc
import re
import subprocess
import sys
from importlib import import_module
from types import GenericAlias

import pytest
from IPython.core.interactiveshell import InteractiveShell
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import together_nb
from tests.kernels import Kernel
from tests.test_house import MODULES
from tests.test_magic import ipython
from together_nb import errors
from together_nb.chunk import Timings
from together_nb.config import Settings, settings
from together_nb.documented import documented, in_words
from together_nb.local import MODEL_ID
from together_nb.local.ngram import NgramModel, default_model
from together_nb.local.server import LocalServer
from together_nb.magic import TogetherMagics
from together_nb.magic.commands import COMMANDS
from together_nb.options import spellings
from together_nb.params import PARAMETERS, SamplingParams
from together_nb.spending import Spent

# numpydoc's: no docstring, unknown or misplaced sections, no summary or one without a capital or a period; parameters
# that are missing, unknown, out of order, or without type or description; no Returns where something is returned, or
# no description there; no Yields.
CHECKS = {
    "GL03", "GL05", "GL06", "GL07", "GL08", "SS01", "SS02", "SS03", "SS06", "PR01", "PR02", "PR03", "PR04",
    "PR05", "PR06", "PR07", "PR08", "PR09", "PR10", "RT01", "RT02", "RT03", "RT04", "RT05", "YD01",
}  # fmt: skip


def kinds_of(error):
    return [error, *(kind for sub in error.__subclasses__() for kind in kinds_of(sub))]


def class_of(value):
    """The class that stands in a module: traitlets makes one for each object."""
    return next(cls for cls in type(value).__mro__ if getattr(import_module(cls.__module__), cls.__name__, None) is cls)


def listed():
    """Functions and classes that are public, by the names under which they stand in a module."""
    public = [getattr(together_nb, name) for name in together_nb.__all__]
    objects = [value for value in public if inspect.isclass(value) or inspect.isfunction(value)]
    objects += [class_of(value) for value in public if type(value).__module__.startswith("together_nb")]
    kinds = [kind for kind in kinds_of(errors.TogetherError) if kind.__module__.startswith("together_nb")]
    led_to = [Timings, Spent]  # by attributes of the others
    objects += [*kinds, *led_to, LocalServer, NgramModel, default_model, TogetherMagics]
    return {f"{value.__module__}.{value.__qualname__}": value for value in objects}


def members(cls):
    """What a class of ours, or one that it is made from, has under a public name: functions and properties."""
    for base in reversed([one for one in cls.__mro__ if one.__module__.startswith("together_nb")]):
        for name, value in vars(base).items():
            plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
                yield f"{base.__module__}.{base.__qualname__}.{name}", plain


OBJECTS = listed()
MEMBERS = {name: value for cls in OBJECTS.values() if inspect.isclass(cls) for name, value in members(cls)}
ALL = {**OBJECTS, **MEMBERS}
CLASSES = {name: value for name, value in OBJECTS.items() if inspect.isclass(value)}
ROUTINES = {name: value for name, value in ALL.items() if inspect.isfunction(value)}
SAMPLERS = [
    name
    for name, value in OBJECTS.items()
    for parameter in inspect.signature(value).parameters.values()
    if parameter.kind is parameter.VAR_KEYWORD and parameter.name in ("sampling", "defaults")
]


def sections(value):
    return NumpyDocString(inspect.getdoc(value))


def entries(value, *names):
    """Name, type and description of what these sections of a docstring list."""
    return [
        (name.strip(), entry.type, " ".join(entry.desc))
        for section in names
        for entry in sections(value)[section]
        for name in entry.name.split(",")
    ]


def test_what_is_checked_is_all_that_is_public():
    homes = {getattr(value, "fget", value).__module__ for value in ALL.values()}
    assert all(home.startswith("together_nb") for home in homes)
    objects = [*OBJECTS.values()]
    for name in together_nb.__all__:
        value = getattr(together_nb, name)
        assert value in objects or type(value) in (str, list, dict) or class_of(value) in objects, name
    assert {"together_nb.session.stream", "together_nb.completion.Completion.cost", "together_nb.config.Settings.copy",
            "together_nb.errors.RateLimitError", "together_nb.magic.magics.TogetherMagics.run_cell"} <= set(ALL)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_numpydoc_has_nothing_to_say(name):
    assert [error for error in validate(name)["errors"] if error[0] in CHECKS] == []


# Types

OPEN = re.compile(r"\b(object|callable|Self)\b")  # of which an annotation does not tell all


def in_words_of(annotation, home):
    alias = getattr(import_module(home), annotation, None)
    return in_words(str(alias) if isinstance(alias, GenericAlias) else annotation)


def annotated(value):
    """The types of the parameters as the annotations have them, in words; of what is open, None."""
    for name, parameter in inspect.signature(value).parameters.items():
        if name not in ("self", "cls") and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            words = in_words_of(str(parameter.annotation), value.__module__)
            yield name, None if OPEN.search(words) else words


@pytest.mark.parametrize("name", [name for name in ALL if not isinstance(ALL[name], property)])
def test_the_types_of_parameters_are_those_of_the_annotations(name):
    told = {name: kind for name, kind, _ in entries(ALL[name], "Parameters")}
    assert {one: told[one] for one, kind in annotated(ALL[name]) if kind not in (None, told[one])} == {}


@pytest.mark.parametrize("name", ROUTINES)
def test_what_a_function_gives_is_told_with_the_type_of_its_annotation(name):
    annotation = ROUTINES[name].__annotations__.get("return", "None")
    words = in_words_of(annotation, ROUTINES[name].__module__)
    told = [entry.type or entry.name for entry in sections(ROUTINES[name])["Returns"]]
    if OPEN.search(words):
        assert len(told) == 1
    else:
        assert told == ([] if words == "None" else [words])


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_tells_of_all_its_properties_with_their_types(name):
    told = {attribute: kind for attribute, kind, what in entries(CLASSES[name], "Parameters", "Attributes") if what}
    for member, value in members(CLASSES[name]):
        if isinstance(value, property):
            assert told[member.rpartition(".")[2]] == in_words(value.fget.__annotations__["return"])


@pytest.mark.parametrize("name", ALL)
def test_each_attribute_has_a_type_and_a_description(name):
    assert [one for one, kind, what in entries(ALL[name], "Attributes") if not kind or not what] == []


# Units

UNITS = {
    r"(seconds|timeout|first_token|retry_after|timings)": r"[Ss]econds",
    r"(price|cost|cost_told|budget|spent)": "US dollars",
    r"(local_)?tokens_per_second": "Tokens a second",
    r".+_tokens|context_length|usage": "[Tt]okens",
    r"(mean_)?logprob|top": r"\(natural\)|[Nn]atural log",
    r"speed": "[Ff]actor",
    r"perplexity": r"e to the",
}


def unit_of(name):
    ends = name.removeprefix("connect_").removeprefix("silence_")
    return next((unit for pattern, unit in UNITS.items() if re.fullmatch(pattern, ends)), None)


def quantities():
    """What is named so that it has a unit: where, its name and what is said of it."""
    for where, value in ALL.items():
        for name, _, what in entries(value, "Parameters", "Attributes"):
            if unit_of(name):
                yield where, name, what
        if isinstance(value, property) and unit_of(where.rpartition(".")[2]):
            yield where, where.rpartition(".")[2], inspect.getdoc(value)


QUANTITIES = [*quantities()]


def test_there_are_quantities_of_each_unit():
    assert {unit_of(name) for _, name, _ in QUANTITIES} == set(UNITS.values())


@pytest.mark.parametrize(("where", "name", "what"), QUANTITIES)
def test_a_quantity_says_its_unit(where, name, what):
    assert re.search(unit_of(name), what)


# Errors


class Raised:
    """Which of our errors a function lets out, by reading it and all that it calls, as far as names tell."""

    def __init__(self):
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
        self.named = {name: {} for name in MODULES}  # what each name of a module stands for
        self.functions = {}  # by module and dotted name
        self.bases = {}
        methods = {}
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("together_nb"):
                    for alias in node.names:
                        self.named[module][alias.asname or alias.name] = node.module, alias.name
            for node in tree.body:
                if isinstance(node, ast.FunctionDef):
                    self.functions[module, node.name] = node
                if isinstance(node, ast.ClassDef):
                    self.bases[module, node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
                    for method in node.body:
                        if isinstance(method, ast.FunctionDef) and not self._is_setter(method):
                            self.functions[module, f"{node.name}.{method.name}"] = method
                            methods.setdefault(method.name, []).append((module, f"{node.name}.{method.name}"))
        ordinary = {name for kind in (str, list, dict, set, io.IOBase) for name in dir(kind)}
        self.by_method = {name: found[0] for name, found in methods.items() if len(found) == 1 and name not in ordinary}
        self.known = {}

    @staticmethod
    def _is_setter(method):
        return any(isinstance(one, ast.Attribute) and one.attr == "setter" for one in method.decorator_list)

    def of(self, module, name):
        """The errors of a function, by where it stands."""
        if (module, name) not in self.known:
            self.known[module, name] = set()  # one that calls itself adds nothing
            self.known[module, name] = self._of_all(self.functions[module, name].body, _Place(self, module, name))
        return self.known[module, name]

    def home(self, module, name):
        """Where what a module calls `name` stands: functions, or classes by what makes them."""
        seen = set()
        while (module, name) not in self.functions and (module, name) not in self.bases:
            if (module, name) in seen or name not in self.named.get(module, {}):
                return None
            seen.add((module, name))
            module, name = self.named[module][name]
        return module, name

    def method(self, module, cls, name):
        """Where a method of a class stands, its own or a base's."""
        if (module, f"{cls}.{name}") in self.functions:
            return module, f"{cls}.{name}"
        homes = [self.home(module, base) for base in self.bases.get((module, cls), ())]
        return next((found for home in homes if home and (found := self.method(*home, name))), None)

    def _of_all(self, nodes, place):
        return set().union(*(self._of(node, place) for node in nodes))

    def _of(self, node, place):
        """What a piece of code lets out."""
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            return set()  # until it is called
        if isinstance(node, ast.Try):
            return self._of_try(node, place)
        found = self._of_all(ast.iter_child_nodes(node), place)
        if isinstance(node, ast.With):
            found -= self._suppressed(node, place, found)
        if isinstance(node, ast.Raise) and node.exc is not None:
            found |= {kind for kind in [place.error(node.exc)] if kind}
        if isinstance(node, ast.Attribute) and place.is_property(node):
            found |= self._of_all_at([place.meant(node)])
        return found | self._of_call(node, place) if isinstance(node, ast.Call) else found

    def _of_try(self, node, place):
        let_out = self._of_all(node.body, place)
        for handler in node.handlers:
            if not self._raises_again(handler):
                let_out -= self._caught(handler.type, place, let_out)
        return let_out | self._of_all([*node.handlers, *node.orelse, *node.finalbody], place)

    def _suppressed(self, node, place, found):
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        kinds = [kind for call in calls if ast.unparse(call.func).endswith("suppress") for kind in call.args]
        return set().union(*(self._caught(kind, place, found) for kind in kinds))

    def _of_call(self, node, place):
        called = place.called(node.func)
        found = self._of_all_at(called)
        if place.is_inner(node.func):
            found |= self._of_all(place.inner[node.func.id].body, place)
        # A function calls the functions that it is given; a method keeps them for later.
        if any("." not in name for _, name in called):
            lambdas = [one.body for one in node.args if isinstance(one, ast.Lambda)]
            given = [inner for one in node.args if place.is_inner(one) for inner in place.inner[one.id].body]
            found |= self._of_all([*lambdas, *given], place)
        return found

    def _of_all_at(self, homes):
        return set().union(*(self.of(*home) for home in homes))

    @staticmethod
    def _raises_again(handler):
        again = [node for node in ast.walk(handler) if isinstance(node, ast.Raise)]
        return any(one.exc is None or ast.unparse(one.exc).split(".")[0] == handler.name for one in again)

    @staticmethod
    def _caught(kind, place, errors):
        kinds = [] if kind is None else kind.elts if isinstance(kind, ast.Tuple) else [kind]
        classes = tuple(one for one in map(place.exception, kinds) if one) or (() if kinds else (BaseException,))
        return {error for error in errors if issubclass(error, classes)}


class _Place:
    """What names stand for within a function."""

    def __init__(self, raised, module, name):
        self.raised, self.module = raised, module
        self.cls = name.rpartition(".")[0]
        self.node = raised.functions[module, name]
        nodes = [*ast.walk(self.node)][1:]
        self.inner = {one.name: one for one in nodes if isinstance(one, ast.FunctionDef)}
        self.values = {
            target.id: one.value
            for one in nodes if isinstance(one, ast.Assign)
            for target in one.targets if isinstance(target, ast.Name)
        }  # fmt: skip

    def is_inner(self, node):
        return isinstance(node, ast.Name) and node.id in self.inner

    def exception(self, node):
        name = ast.unparse(node).rpartition(".")[2]
        module, name = self.raised.home(self.module, name) or (self.module, name)  # it may be imported where it is used
        found = getattr(import_module(module), name, getattr(builtins, name, None))
        return found if inspect.isclass(found) and issubclass(found, BaseException) else None

    def error(self, node):
        """The class of ours that `raise node` raises."""
        if isinstance(node, ast.Name) and node.id in self.values:
            node = self.values[node.id]
        while isinstance(node, ast.Call):
            node = (
                node.func.value
                if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call)
                else node.func
            )
        found = self.exception(node)
        if found is None and (home := self.raised.home(self.module, ast.unparse(node))) in self.raised.functions:
            made = self.raised.functions[home].returns  # a function that makes the error
            return _Place(self.raised, *home).error(made) if made is not None else None
        return found if found and issubclass(found, errors.TogetherError) else None

    def called(self, node):
        """Where what is called by that name stands: a function, or what makes an instance of a class."""
        home = self.meant(node)
        if home is None and isinstance(node, ast.Attribute):
            home = self.raised.by_method.get(node.attr)  # of an object that is not known
        if home is None or home in self.raised.functions:
            return [home] if home else []
        return [made for name in ("__init__", "__post_init__") if (made := self.raised.method(*home, name))]

    def is_property(self, node):
        home = self.meant(node) if isinstance(node.value, ast.Name) and node.value.id == "self" else None
        marks = self.raised.functions[home].decorator_list if home in self.raised.functions else []
        return any(isinstance(one, ast.Name) and one.id == "property" for one in marks)

    def meant(self, node):
        """Where what a name of a module or of this class stands for is defined, or None."""
        if isinstance(node, ast.Name):
            return (self.module, self.cls) if node.id == "cls" else self.raised.home(self.module, node.id)
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            return None
        if node.value.id in ("self", "cls"):
            return self.raised.method(self.module, self.cls, node.attr)
        module = self.raised.named[self.module].get(node.value.id)
        if module is not None and (found := self.raised.home(".".join(module), node.attr)):
            return found
        cls = self.raised.home(self.module, node.value.id)
        return cls and self.raised.method(*cls, node.attr)


@functools.cache
def raised():
    return Raised()


def let_out(name, value):
    """The errors of a function or property, or of making an instance of a class."""
    home = getattr(value, "fget", value).__module__
    within = name.removeprefix(f"{home}.")
    if inspect.isclass(value):
        made = [raised().method(home, within, one) for one in ("__init__", "__post_init__")]
        return set().union(*(raised().of(*one) for one in made if one))
    return raised().of(home, within)


def told_errors(value):
    """The classes that a docstring tells of, by name; None for what is neither Python's nor ours."""
    names = [entry.type for entry in sections(value)["Raises"]]
    return {name: getattr(errors, name, getattr(builtins, name, None)) for name in names}


NOT_LET_OUT = {"together_nb.panel.panel.Panel.go_on"}  # it changes parameters into what it knows to be fit


@pytest.mark.parametrize("name", ALL)
def test_every_error_of_ours_that_can_be_raised_is_told(name):
    told = tuple(kind for kind in told_errors(ALL[name]).values() if kind)
    untold = {error.__name__ for error in let_out(name, ALL[name]) if not issubclass(error, told)}
    assert (untold == set()) != (name in NOT_LET_OUT)


@pytest.mark.parametrize("name", ALL)
def test_the_errors_that_are_told_exist_and_are_described(name):
    outside = {"TraitError"}
    assert {one for one, kind in told_errors(ALL[name]).items() if kind is None} <= outside
    assert all("".join(entry.desc) for entry in sections(ALL[name])["Raises"])


def test_errors_are_found_on_the_ways_that_code_has():
    found = {name: {error.__name__ for error in let_out(name, ALL[name])} for name in ALL}
    assert found["together_nb.params.SamplingParams.from_dict"] == {"InputError"}
    assert found["together_nb.store.save"] == {"InputError"}
    assert "MissingKeyError" in found["together_nb.session.stream"]
    assert "BudgetError" in found["together_nb.session.complete"]
    assert found["together_nb.conversation.Conversation.from_dict"] == {"InputError"}
    assert found["together_nb.chunk.Usage.plus"] == set()
    assert found["together_nb.completion.Completion.cost"] == set()


# From the declarations


@pytest.mark.parametrize("name", [*SAMPLERS, "together_nb.params.SamplingParams", "together_nb.config.Settings"])
def test_the_sampling_parameters_are_all_listed_with_type_meaning_and_bounds(name):
    text = " ".join(pydoc.plain(pydoc.render_doc(OBJECTS[name])).replace("|", " ").split())
    for parameter in PARAMETERS.values():
        expected = parameter.expected[0].upper() + parameter.expected[1:]
        assert f"{parameter.name} : " in text
        assert f"{parameter.help} {expected}." in text
    assert "temperature : float or None" in text


def test_those_that_take_sampling_parameters_are_the_ones_that_are_known():
    assert {name.rpartition(".")[2] for name in SAMPLERS} == {
        "stream", "complete", "compare", "map_prompts", "continue_from", "Panel",
    }  # fmt: skip


def test_the_source_of_the_parameters_is_told():
    for parameter in PARAMETERS.values():
        assert parameter.source in SamplingParams.__doc__


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_left_to_be_filled_in_or_looked_up(name):
    text = inspect.getdoc(ALL[name])
    assert re.search(r"^ *\{\w+\}$|\bAs for `", text, re.MULTILINE) is None


def test_what_is_as_for_another_function_is_filled_in_and_keeps_its_own_type():
    def first(prompt, number, **sampling):
        """One.

        Parameters
        ----------
        prompt : str
            What to ask.

            At length.
        number : int
            How many.
        **sampling
            Here:

            {sampling}
        """

    @documented(documented()(first))
    def second(prompt, number, **sampling):
        """Two.

        Parameters
        ----------
        prompt, **sampling
            As for `first`.
        number : int or None
            As for `first`.

        Returns
        -------
        str
            Something.
        """

    told = {name: (kind, what) for name, kind, what in entries(second, "Parameters")}
    assert told["prompt"] == ("str", "What to ask.  At length.")
    assert told["number"] == ("int or None", "How many.")
    assert told["**sampling"][1].startswith("Here:  max_tokens : int or None     The most tokens")
    assert [entry.type for entry in sections(second)["Returns"]] == ["str"]


def test_what_is_as_for_a_parameter_that_there_is_not_is_no_docstring():
    def asked(other):
        """Ask.

        Parameters
        ----------
        other
            As for `stream`.
        """

    with pytest.raises(KeyError, match="other"):
        documented(together_nb.stream)(asked)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ("str | None", "str or None"),
        ("Iterable[dict[str, Any]] | None", "iterable of dict or None"),
        ("tuple[tuple[str, float], ...]", "tuple of tuple of (str, float)"),
        ("tuple[float, float] | None", "tuple of (float, float) or None"),
        ("dict[str, list[Token]]", "dict of str to list of Token"),
        ("Iterator[generation.Generated]", "iterator of Generated"),
        ("Any", "object"),
    ],
)
def test_types_are_told_in_words(annotation, words):
    assert in_words(annotation) == words


WITHOUT = """
import sys
import together_nb
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "together_nb")
assert together_nb.stream.__doc__ is None
print(together_nb.complete("Alan Turing was", max_tokens=3).usage.completion_tokens)
for name in together_nb.__all__:
    getattr(together_nb, name)
assert "--temperature" in shell.object_inspect("%%together")["docstring"]
"""


def test_without_docstrings_all_works(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-OO", "-W", "ignore", "-c", WITHOUT],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


# The way in


def overview():
    """What the package's own docstring says of each name."""
    return dict(re.findall(r"^    (\w+) {2,}(\S.*)$", together_nb.__doc__, re.MULTILINE))


def test_the_package_tells_of_every_public_name_and_of_no_other():
    told = overview()
    assert set(told) == set(together_nb.__all__)
    assert [name for name, what in told.items() if not what.endswith(".")] == []


@pytest.mark.parametrize(
    ("name", "said"), [("history", "list of `Completion`"), ("conversations", "dict of `Conversation`")]
)
def test_what_cannot_have_a_docstring_is_told_of_there_with_its_type(name, said):
    assert said in overview()[name]
    assert type(getattr(together_nb, name)).__name__ == said.split()[0]


def test_the_embedded_engine_tells_of_its_public_names():
    names = {f"`{name}`" for name in ("MODEL_ID", "NgramModel", "default_model", "LocalServer")}
    assert {name for name in names if name not in together_nb.local.__doc__} == set()
    assert "MODEL_ID = 'local/ngram'" in pydoc.plain(pydoc.render_doc(together_nb.local))


def test_help_of_the_package_is_a_way_in():
    text = pydoc.plain(pydoc.render_doc(together_nb))
    assert text.index("complete             An answer, whole") < text.index("PACKAGE CONTENTS")


# Examples

EXAMPLES = {
    name: value for name, value in {**ALL, "together_nb": together_nb}.items() if ">>>" in (value.__doc__ or "")
}


def run_examples(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(EXAMPLES[name]), {}, name, None, None)
    said = []
    done = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert done.failed == 0, "".join(said)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "load_ipython_extension" not in name])
def test_the_examples_run_without_a_key(name, tmp_path, monkeypatch):
    InteractiveShell.clear_instance()  # whoever has an IPython sees answers drawn
    run_examples(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "load_ipython_extension" in name])
def test_the_examples_of_loading_run_in_ipython(name, tmp_path, monkeypatch):
    with ipython():
        run_examples(name, tmp_path, monkeypatch)


def test_every_public_function_and_every_class_that_is_made_by_hand_has_an_example():
    handed = {"BackgroundRun", "Chunk", "Turn"}  # which come from elsewhere, and are shown there
    public = [value for value in map(functools.partial(getattr, together_nb), together_nb.__all__) if callable(value)]
    without = {value.__name__ for value in public if ">>>" not in value.__doc__}
    assert without == handed


def test_only_what_needs_a_page_is_left_out_of_the_examples():
    skipped = {name for name, value in EXAMPLES.items() if "+SKIP" in value.__doc__}
    assert skipped == {"together_nb.panel.panel.Panel"}


# In IPython


@pytest.fixture
def shell():
    with ipython() as one:
        yield one


@pytest.mark.parametrize("name", ["%%together", "%together"])
def test_the_magics_tell_all_that_a_new_user_needs(shell, name):
    told_to_a_new_user(shell.object_inspect(name)["docstring"])


def told_to_a_new_user(text):
    """An example, each option and command, bounds, names, where the answer lands, the key, how to stop it."""
    words = " ".join(text.split())
    assert "%%together --temperature 0.7 --max-tokens 200 -o story\n  Tell me a story about {hero}.\n" in text
    for option in spellings():
        assert re.search(rf"^  (-\w( \S+)?, )?{option}\b", text, re.MULTILINE), option
    for parameter in PARAMETERS.values():
        assert f"{parameter.help} ({parameter.expected})" in words
        assert re.search(rf"{parameter.option} \[?\w+\]?\s", text), "no type"
    for command in COMMANDS.values():
        assert f"  {command.typed or '(alone)'} " in text
        assert command.help in text
    for needed in (
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",  # in one piece
        "{name}, {name.attribute}, {name[key]}, {In[3]} and {Out[3]} are filled in",
        "It is in `_together`",
        "usage (tokens)", "cost (US dollars)", "timings (seconds)",
        "`together_nb.history`", "`together_nb.conversations`",
        "`%together login`", "TOGETHER_API_KEY", MODEL_ID,
        "■ (Interrupt) or Ctrl-C ends it", "`%together continue`",
        "--out binds a Future: `.done()`, `.result()` waits, `.cancel()`",
        "`.parsed`", "`.unparsed`", "`.retry_failed()`", "`.to_frame()`",
        "KEY is model, api, system or a sampling parameter", "the list of the answers is bound",
        "what is not set is not sent, 0 is sent",
        "%config TogetherMagics.temperature = 0.7", "help(together_nb)",
    ):  # fmt: skip
        assert needed in words


def shown_cells(text):
    """The examples of the help, each a cell."""
    examples = text.partition("\nexamples:\n")[2].partition("\nEach is a cell")[0]
    return [re.sub(r"^  ", "", cell, flags=re.MULTILINE).strip("\n") for cell in examples.split("\n\n")]


def test_the_examples_of_the_help_run_as_they_stand(shell):
    text = shell.object_inspect("%%together")["docstring"]
    cells = shown_cells(text)
    assert len(cells) == 6
    shell.run_cell("hero = 'Ada'").raise_error()
    shell.run_cell(re.search(r"^  (person = .*)$", text, re.MULTILINE)[1]).raise_error()
    for cell in cells:
        assert cell.startswith("%%together "), cell
        shell.run_cell(cell).raise_error()
    names = shell.user_ns
    assert names["story"].filled == ("hero",)
    assert [type(one).__name__ for one in names["both"]] == ["Completion", "Completion"]
    assert isinstance(names["told"].parsed, dict)
    assert names["run"].done()
    assert names["_together"] is names["run"].result()


def test_settings_shows_every_trait_with_its_type_its_help_and_its_unit(shell):
    shell.run_cell("from together_nb import settings").raise_error()
    info = shell.object_inspect("settings")
    told = {name: (kind, what) for name, kind, what in entries(settings, "Attributes")}
    for name, trait in settings.traits().items():
        kind, what = told[name]
        assert f"{name} : {kind}\n" in info["docstring"]
        assert re.sub(r" \(.*\)$", "", trait.help) in what
        assert kind.endswith(" or None") == trait.allow_none
    assert told["timeout"] == ("float", "Seconds of silence to put up with before an answer begins. At first 300.0.")
    assert inspect.getdoc(Settings) == info["docstring"]


def test_an_answers_own_help_tells_of_its_attributes(shell):
    shell.run_cell("%%together --max-tokens 3 --show none\nAlan Turing was").raise_error()
    docstring = shell.object_inspect("_together")["docstring"]
    assert "cost : float or None\n    US dollars" in docstring


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    one = Kernel(tmp_path_factory.mktemp("kernel"))
    yield one
    one.stop()


def inspected(kernel, code):
    """What Shift+Tab and ``?`` show."""
    kernel.client.inspect(code, len(code))
    shown = kernel.client.get_shell_msg(timeout=60)["content"]["data"]["text/plain"]
    return re.sub(r"\x1b\[[\d;]*m", "", shown)


@pytest.mark.parametrize("name", ["%%together", "%together"])
def test_the_magics_tell_the_same_in_a_kernel(kernel, name):
    told_to_a_new_user(inspected(kernel, name))


def test_functions_and_settings_tell_all_in_a_kernel(kernel):
    kernel.run("from together_nb import complete, settings").wait()
    assert "temperature : float or None" in inspected(kernel, "complete")
    assert "api_key : str or None" in inspected(kernel, "complete")
    assert "connect_timeout : float\n    Seconds to wait for a connection." in inspected(kernel, "settings")
