"""The options of ``%%together``: their parser and their help, generated from the declarations."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from together_nb.config import DEFAULT_MODEL, LOCAL_MODEL
from together_nb.dialects import DIALECTS, dialect_for
from together_nb.environment import KEY_VARIABLE
from together_nb.errors import InputError, suggestion
from together_nb.fill import variable
from together_nb.formats import AUTO, FORMATS, format_for
from together_nb.params import PARAMETERS, Parameter
from together_nb.variations import TEXTS

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Options:
    """What stands on the line of a cell.

    Parameters
    ----------
    model, api, system, out, show, raw, dry_run, background, schema
        As the options of these names.
    sampling
        The sampling parameters that were given; None unsets one that is set elsewhere.
    chat
        Name of the conversation, "" for the one without a name; None for none.
    compare
        What stands after each ``--compare``.
    items
        The expression after ``--for``, or None.
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

Without a key {LOCAL_MODEL} answers, a toy model on this machine. For Together's
models run `%together login`, or set {KEY_VARIABLE} in the environment."""
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

Each is a cell of its own. `both` is the list of the answers, `told.texts` are
those of a batch, `told.parsed` is what a schema gave, here with
  person = {"type": "object", "properties": {"name": {"type": "string"}}}
and `run.result()` waits for the answer.

`%config TogetherMagics.temperature = 0.7` holds for every cell that does not say
otherwise; `%config TogetherMagics` lists what can be set so. In Python there is
more: `import together_nb`, `help(together_nb)`.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps a model's id in one piece, which has hyphens."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        import textwrap

        return textwrap.wrap(text, width, break_on_hyphens=False)


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises what a cell can show."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}.", "`%%together?` shows the options.")


@cache
def _parser() -> _Parser:
    parser = _Parser(
        prog="%%together", add_help=False, allow_abbrev=False, usage="%%%%together [options]", description=_DESCRIPTION,
        epilog=_EXAMPLES, formatter_class=_Formatter,
    )  # fmt: skip
    add = parser.add_argument_group("the request").add_argument
    add("-m", "--model", metavar="ID", help=f"the model; {LOCAL_MODEL} needs no key (with a key: {DEFAULT_MODEL})")
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
    add = parser.add_argument_group("the answer").add_argument
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
    group = parser.add_argument_group(
        "sampling (what is not set is not sent, 0 is sent; `unset` takes back a default of %config TogetherMagics)"
    )
    for parameter in PARAMETERS.values():
        _add(group, parameter)
    return parser


def _add(group: argparse._ArgumentGroup, parameter: Parameter) -> None:
    how: dict[str, Any] = {"dest": parameter.name, "default": argparse.SUPPRESS, "metavar": parameter.type.__name__}
    if parameter.type is bool:
        how |= {"nargs": "?", "const": "true"}
    if parameter.type is list:
        how |= {"action": "append", "metavar": "text"}
    group.add_argument(parameter.option, help=f"{parameter.help} ({parameter.expected})".replace("%", "%%"), **how)


def parse(line: str) -> Options | None:
    """The options on `line`, or None where the help is asked for.

    Raises
    ------
    InputError
        An option is unknown, lacks its value, or has a value that does not fit.
    """
    words = [_hyphened(word) for word in split(line)]
    if any(word.endswith("=--") for word in words):  # which argparse takes for no value, or fails over
        raise InputError("-- is no value of an option.", "Put a value after the =.")
    given, unknown = _parser().parse_known_args(words)
    if given.help:
        return None
    if unknown:
        _refuse(unknown[0])
    dialect_for(given.api) if given.api != AUTO else None
    format_for(given.show, chat=True)
    out = None if given.out is None else variable(given.out)
    if given.out is not None and out is None:
        raise InputError(
            f"{given.out!r} cannot be a variable's name here.",
            "Use letters, digits and _, and no name that Python or IPython needs: --out answer",
        )
    sampling = {
        name: _value(parameter, getattr(given, name)) for name, parameter in PARAMETERS.items() if name in given
    }
    read = Options(
        given.model, given.api, given.system, out, given.show, given.raw, given.dry_run, given.background, sampling,
        given.chat, given.schema, given.compare, given.items,
    )  # fmt: skip
    _check_together(read)
    return read


def _check_together(read: Options) -> None:
    """Refuse options that say two things at once."""
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
    r"""The words of `line`; quotes group, and a backslash is a backslash (``--stop \n``).

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
    """``--max_tokens`` as ``--max-tokens``: Python's spelling of a parameter is an option too."""
    option, equals, value = word.partition("=")
    return option.replace("_", "-") + equals + value if option.startswith("--") else word


def _refuse(word: str) -> NoReturn:
    option = word.partition("=")[0]
    if option.startswith("-"):
        hint = suggestion(option, spellings()) or "`%%together?` shows the options."
        raise InputError(f"There is no option {option}.", hint)
    raise InputError(
        f"{word!r} stands on the line and belongs to no option.",
        "The prompt goes below the line; a value with spaces goes in quotes.",
    )


def _value(parameter: Parameter, given: Any) -> Any:
    if parameter.type is list:
        values = [parameter.parse(text) for text in given]
        return None if None in values else [text for value in values for text in value]
    return parameter.parse(given)


def spellings() -> list[str]:
    """Every long option, as it is offered and suggested."""
    return [next(text for text in action.option_strings if text.startswith("--")) for action in _parser()._actions]  # noqa: SLF001


def help_text() -> str:
    """The help of ``%%together``, as ``%%together?`` shows it."""
    return _parser().format_help()
