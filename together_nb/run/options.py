"""The options of ``%%together``: their parser and their help, generated from the declarations."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from together_nb.base.suggest import suggestion
from together_nb.config.environment import KEY_VARIABLE
from together_nb.config.settings import DEFAULT_MODEL
from together_nb.errors import InputError
from together_nb.render.formats import FORMATS, format_for
from together_nb.run.template import variable
from together_nb.values.local_models import PREFIX
from together_nb.values.parameters import AUTO, PARAMETERS, Parameter
from together_nb.values.request import checked_extra
from together_nb.values.variations import TEXTS
from together_nb.wire.dialects import DIALECTS, dialect_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Options:
    """The options on the line of a cell.

    Parameters
    ----------
    model, api, system, out, show, raw, dry_run, background, schema
        As the options of the same names.
    sampling
        The sampling parameters given; None unsets one that is set elsewhere.
    chat
        Name of the conversation; "" for the unnamed one, None for none.
    compare
        The value of each ``--compare``.
    items
        The expression after ``--for``, or None.
    extra
        The JSON object after ``--extra``, or None.
    """

    model: str | None = None
    api: str = AUTO
    system: str | None = None
    out: str | None = None
    show: str = AUTO
    raw: bool = False
    dry_run: bool = False
    background: bool = False
    sampling: dict[str, Any] = field(default_factory=dict)
    chat: str | None = None
    schema: str | None = None
    compare: list[str] = field(default_factory=list)
    items: str | None = None
    extra: dict[str, Any] | None = None


_DESCRIPTION = f"""\
The lines below it are the prompt, sent as they stand. {{name}}, {{name.attribute}},
{{name[key]}}, {{In[3]}} and {{Out[3]}} are filled in where there is such a variable;
every other brace stays as typed. In code (fences, backticks, f-strings) a name is
filled in only where it is all there is, as in `{{name}}`. Modules, the environment
and the key are never filled in; --dry-run shows what is.

The answer streams below the cell. It is in `_together`, and in the variable
that --out names: a Completion with its text, usage (tokens), finish_reason,
cost (US dollars), timings (seconds) and the rest; `_together?` tells of them.
`together_nb.history` has all the answers.

■ (Interrupt) or Ctrl-C ends it: what came is kept, and `%together continue`
goes on from there.

Without a key a small model on this machine answers. For Together's models
run `%together login`, or set {KEY_VARIABLE} in the environment."""
_EXAMPLES = """\
examples:
  %%together --temperature 0.7 --max-tokens 200 -o story
  Tell me a story about {hero}.

  %%together --chat --system "Answer in one sentence." --max-tokens 40
  Who was Alan Turing?

  %%together --compare temperature=0,1 --max-tokens 30 -o both
  Once upon a time

  %%together --for "['Ada Lovelace', 'Alan Turing']" --max-tokens 20 -o told
  {item} was

  %%together --schema person -o told
  Who was Alan Turing?

  %%together --background --max-tokens 100 -o run
  Once upon a time

Each is a cell of its own; local/ngram takes no schema. `both` is the list of the
answers, `told.texts` are those of a batch, `told.parsed` is what a schema gave,
here with
  person = {"type": "object", "properties": {"name": {"type": "string"}}}
and `run.result()` waits for the answer.

`%config TogetherMagics.temperature = 0.7` holds for every cell that does not say
otherwise; `%config TogetherMagics` lists what can be set so. In Python there is
more: `import together_nb`, `help(together_nb)`.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps model ids, which have hyphens, in one piece."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(text, width, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `InputError`.

    Parameters
    ----------
    hint
        What to do about an invalid argument.
    settings
        As for `argparse.ArgumentParser`.
    """

    def __init__(self, hint: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.hint = hint

    def error(self, message: str) -> NoReturn:
        """Refuse the line."""
        message = message.replace("the following arguments are required:", "missing:")
        raise InputError(f"{message[:1].upper()}{message[1:]}.", self.hint)

    def spellings(self) -> list[str]:
        """Every long option, to complete and suggest."""
        return [
            next(text for text in one.option_strings if text.startswith("--"))
            for one in self._actions
            if one.option_strings
        ]

    def refuse(self, word: str) -> NoReturn:
        """Refuse a word that belongs to no option."""
        option = word.partition("=")[0]
        if option.startswith("-"):
            of_a_cell = option in parser().spellings()
            near = "" if of_a_cell else suggestion(option, self.spellings())
            raise InputError(f"There is no option {option}{' here' * of_a_cell}.", near or self.hint)
        raise InputError(
            f"{word!r} stands on the line and belongs to no option.",
            "The prompt goes below the line; a value with spaces goes in quotes.",
        )


@cache
def parser(only: tuple[str, ...] = ()) -> Parser:
    """Return the parser of a cell's options, or of those that a command takes.

    Parameters
    ----------
    only
        Names of `Options`; empty means all.
    """
    hint = "`%%together?` shows the options."
    if only:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in only if name != "sampling")
        hint = f"Here are only {names} and the sampling parameters."
    made = Parser(
        hint, prog="%%together", add_help=False, allow_abbrev=False, usage="%%%%together [options]",
        description=_DESCRIPTION, epilog=_EXAMPLES, formatter_class=_Formatter,
    )  # fmt: skip

    def adder(title: str) -> Callable[..., None]:
        group = made.add_argument_group(title)

        def add(*names: str, **how: Any) -> None:
            name = how.get("dest", names[-1].removeprefix("--").replace("-", "_"))
            if not only or name in only:
                group.add_argument(*names, **how)

        return add

    add = adder("the request")
    add(
        "-m",
        "--model",
        metavar="ID",
        help=f"the model; those that begin with {PREFIX} need no key (with a key: {DEFAULT_MODEL})",
    )
    dialects = "; ".join(f"{dialect.name}: {dialect.help}" for dialect in DIALECTS.values())
    add("--api", default=AUTO, metavar="API", help=f"auto: chosen by the model's type; {dialects}")
    add("--system", metavar="TEXT", help="system prompt of a chat")
    add(
        "-c", "--chat", metavar="NAME", nargs="?", const="",
        help="continue this conversation, or the one without a name; a cell that runs again replaces its turn and "
        "drops the later ones; `together_nb.conversations` holds them by name",
    )  # fmt: skip
    add(
        "--schema",
        metavar="NAME",
        help="ask for JSON that fits this variable, a JSON Schema (a dict) or a pydantic model; the answer's `.parsed` is "
        "the result, or its `.unparsed` says why there is none",
    )
    add(
        "--compare", metavar="KEY=A,B", action="append", default=[],
        help=f"ask once for each value, side by side; given again, all combinations; KEY is {', '.join(TEXTS)} or a sampling "
        "parameter, and the list of the answers is bound",
    )  # fmt: skip
    add(
        "--for", dest="items", metavar="EXPR",
        help="ask once for each of these texts, tuples, dicts or rows; {item} or their keys are filled in; the result "
        "has `.texts`, `.failed`, `.retry_failed()` and `.to_frame()`",
    )  # fmt: skip
    add(
        "--extra", metavar="JSON",
        help="send this too, a JSON object in quotes: what the server has and the options do not, as '{\"top_a\": 0.2}'",
    )  # fmt: skip
    add = adder("the answer")
    formats = "; ".join(f"{row.name}: {row.help}" for row in FORMATS.values())
    add("--show", default=AUTO, metavar="HOW", help=f"auto: markdown for a chat, else text; {formats}")
    add("-o", "--out", metavar="NAME", help="bind the answer to this variable (`_together` is always the last one)")
    add(
        "-b", "--background", action="store_true",
        help="return at once: the answer streams below the cell, with a Stop button; --out binds a Future: `.done()`, "
        "`.result()` waits, `.cancel()`",
    )  # fmt: skip
    add("--raw", action="store_true", help="send all braces as typed, fill in no {name}")
    add("--dry-run", action="store_true", help="show the request and the values that are filled in, and send nothing")
    add("-h", "--help", action="store_true", help="show this help")
    group = made.add_argument_group(
        "sampling (what is not set is not sent, 0 is sent; `unset` takes back a default of %config TogetherMagics)"
    )
    for parameter in PARAMETERS.values():
        _add(group, parameter)
    return made


def _add(group: argparse._ArgumentGroup, parameter: Parameter) -> None:
    how: dict[str, Any] = {"dest": parameter.name, "default": argparse.SUPPRESS, "metavar": parameter.type.__name__}
    if parameter.type is bool:
        how |= {"nargs": "?", "const": "true"}
    if parameter.type is list:
        how |= {"action": "append", "metavar": "text"}
    group.add_argument(parameter.option, help=f"{parameter.help} ({parameter.expected})".replace("%", "%%"), **how)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InputError(
            "--extra takes a JSON object.",
            """Put it in quotes of the other kind: --extra '{"top_a": 0.2}'.""",
        )
    return checked_extra(value)


def parse(line: str, only: tuple[str, ...] = ()) -> Options | None:
    """Return the options on `line`, or None if it requests help.

    Parameters
    ----------
    line
        The text typed.
    only
        As for `parser`.

    Raises
    ------
    InputError
        An option is unknown, lacks its value, or has an invalid one.
    """
    words = [_hyphened(word) for word in split(line)]
    if any(word.endswith("=--") for word in words):  # argparse sees no value here, or fails
        raise InputError("-- is no value of an option.", "Put a value after the =.")
    given, unknown = parser(only).parse_known_args(words)
    if "help" in given and given.help:
        return None
    if unknown:
        parser(only).refuse(unknown[0])
    sampling = {
        name: _value(parameter, getattr(given, name)) for name, parameter in PARAMETERS.items() if name in given
    }
    read = Options(
        **{one.name: getattr(given, one.name) for one in fields(Options) if one.name in given}, sampling=sampling
    )
    if isinstance(read.extra, str):
        read = replace(read, extra=_json_object(read.extra))
    dialect_for(read.api) if read.api != AUTO else None
    format_for(read.show, chat=True)
    if read.out is not None:
        name = variable(read.out)
        if name is None:
            raise InputError(
                f"{read.out!r} cannot be a variable's name here.",
                "Use letters, digits and _, and no name that Python or IPython needs: --out answer",
            )
        read = replace(read, out=name)
    _check_together(read)
    return read


def _check_together(read: Options) -> None:
    """Refuse options that conflict."""
    ways = {
        "--for": read.items is not None, "--compare": bool(read.compare), "--chat": read.chat is not None,
        "--background": read.background,
    }  # fmt: skip
    chosen = [name for name, given in ways.items() if given]
    if read.items is not None and read.raw:
        chosen = ["--for", "--raw"]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(chosen)} do not go together.", "Use one of them.")
    if read.schema is not None and read.api != AUTO and not dialect_for(read.api).chat:
        raise InputError(f"--schema cannot be sent to the {read.api} API.", "Add --api chat.")


def split(line: str) -> Iterator[str]:
    r"""Yield the words of `line`; quotes group, and a backslash is literal (``--stop \n``).

    Raises
    ------
    InputError
        A quote is not closed.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split = True
    lexer.commenters = ""
    lexer.escape = ""
    try:
        yield from lexer
    except ValueError:
        raise InputError("A quote on the line is not closed.", f"The line was: {line.strip()}") from None


def _hyphened(word: str) -> str:
    """``--max_tokens`` as ``--max-tokens``: Python's spelling of an option works too."""
    option, equals, value = word.partition("=")
    return option.replace("_", "-") + equals + value if option.startswith("--") else word


def _value(parameter: Parameter, given: Any) -> Any:
    if parameter.type is list:
        values = [parameter.parse(text) for text in given]
        return None if None in values else [text for value in values for text in value]
    return parameter.parse(given)


def help_text() -> str:
    """The help of ``%%together``, as ``--help`` shows it."""
    return parser().format_help()
