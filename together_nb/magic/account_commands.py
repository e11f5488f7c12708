"""Commands about the server: status, key, models."""

from __future__ import annotations

import getpass
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from together_nb.base.interrupts import interrupt_message
from together_nb.config import environment
from together_nb.config.addresses import DEFAULT_BASE_URL, host_of, server_root
from together_nb.config.environment import KEY_VARIABLE
from together_nb.config.keys import Key, remember
from together_nb.errors import AuthenticationError, InputError, TogetherError
from together_nb.values.local_models import NGRAM, SMOLLM

if TYPE_CHECKING:
    from together_nb.magic.notebook import Notebook


def status(notebook: Notebook) -> None:
    """Show server, model, key and defaults."""
    from together_nb.run import resolve

    settings = notebook.session.settings
    model, server = resolve.described_defaults(notebook.session)
    key = settings.api_key
    root = server_root(settings.chosen_base_url or DEFAULT_BASE_URL)
    other = settings.other_key(root)
    ending = f", ending in …{key.ending}" if key is not None and key.ending else ""
    lines = {
        "server": server,
        "family": str(resolve.defaults(notebook.session)[1].recognition),
        "model": model,
        "key": other or f"none; `%together login` takes one, or set {KEY_VARIABLE}"
        if key is None
        else f"from {key.source}{ending}",
        "defaults": ", ".join(f"{k}={v!r}" for k, v in settings.sampling.to_dict().items()) or "none set",
        "answers so far": str(len(notebook.session.history)),
    }
    headers = settings.default_headers
    if headers or settings.other_headers(root):
        lines["headers"] = settings.other_headers(root) if headers is None else ", ".join(headers.names)
    if environment.environment.late:
        lines["note"] = environment.environment.late
    width = max(map(len, lines))
    print("\n".join(f"{name + ':':<{width + 1}} {value}" for name, value in lines.items()))  # noqa: T201


def login(notebook: Notebook, text: str) -> None:
    """Read a key without showing or saving it, and try it on the server."""
    from IPython.core.error import StdinNotImplementedError

    settings = notebook.session.settings
    if text:
        with suppress(InputError):  # so that nothing that quotes the line shows it
            remember(Key(re.split(r"[\s=]", text)[-1], "the line"))
        raise InputError(
            "The key does not go on the line: IPython keeps each line in its history, and the notebook too.",
            "Run `%together login` alone. If that was a real key, withdraw it and make another.",
        )
    root = server_root(settings.chosen_base_url or DEFAULT_BASE_URL)
    host = host_of(root)
    before = None
    with suppress(InputError):  # the environment's value may be no valid key
        before = settings.key_for(root)
    try:
        # `getpass.getpass` is looked up now: a kernel replaces it while a cell runs. The text is not bound to a
        # name, since tracebacks may show variables.
        key = Key(getpass.getpass(f"API key for {host} (it is not shown and not saved): "), "`%together login`")
    except (StdinNotImplementedError, EOFError):
        raise InputError(
            "Nobody can be asked for a key here.", f"Set {KEY_VARIABLE} in the environment instead."
        ) from None
    settings.set_key(key, root)
    try:
        found = [row for row in notebook.session.models(fresh=True, base_url=root) if row.writes_text]
    except AuthenticationError:
        settings.set_key(None if before is None or before.source == KEY_VARIABLE else before, root)
        raise
    except TogetherError as error:
        print(f"The key for {host} is kept until the kernel ends; it could not be tried out: {error.message}")  # noqa: T201
    else:
        listed = f"{len(found)} models that write text"
        print(f"The key works, is kept until the kernel ends, and goes only to {host}: {listed}.")  # noqa: T201


def logout(notebook: Notebook) -> None:
    """Forget the key, and the headers."""
    notebook.session.settings.api_key = notebook.session.settings.default_headers = None
    notebook.session.client.call_keys.clear()
    left = environment.environment.key
    print(f"Forgotten; the key from {KEY_VARIABLE} is still there." if left else "The key is forgotten.")  # noqa: T201


def get(notebook: Notebook, source: str | None, sha256: str | None) -> None:
    """Fetch SmolLM2-135M, or add another model file."""
    from together_nb.local.get import get_model

    del notebook
    width = 0

    def show(words: str) -> None:  # each line in the place of the one before
        nonlocal width
        print(f"\r{words:<{width}}", end="", flush=True)  # noqa: T201
        width = len(words)

    with interrupt_message("stopped by you; nothing is kept."):
        model = get_model(source, sha256, show)
    print("\nIt answers if there is no key." if model == SMOLLM else f"\nUse it with `-m {model}`.")  # noqa: T201


def models(notebook: Notebook, text: str) -> None:
    """List the models that can be called."""
    from together_nb.local.models import served_models
    from together_nb.render import tables
    from together_nb.run import resolve
    from together_nb.values.model_list import ModelList

    if resolve.endpoint_for(notebook.session).lacks_key:
        notebook.display(*_table_of_local_models(text))
        return
    found = notebook.session.models(text)
    rows = ModelList(tuple(found)).callable()
    if not rows:
        raise InputError(
            f"No model that writes text has {text!r} in its name.", "`%together models` alone lists them all."
        )
    left = len(found) - len(rows)
    note = f"{len(rows)} of {len(found)}: the others write no text or need an endpoint of their own." if left else ""
    here = f"On this machine, with no key: {', '.join(served_models())}."
    notebook.display(*tables.of_models(rows, f"{note} {here}".strip()))


def _table_of_local_models(text: str) -> tuple[str, str]:
    from together_nb.local import generation, llama, sampler
    from together_nb.local.models import known_models
    from together_nb.render import tables

    rows = []
    for model in known_models():
        if text.lower() not in model.id.lower():
            continue
        if model.id == NGRAM:
            values = {"temperature": sampler.DEFAULT_TEMPERATURE, "max_tokens": generation.DEFAULT_MAX_TOKENS}
        else:
            values = llama.defaults(model.id)
        unset = ", ".join(f"{name} {value:g}" for name, value in values.items() if value)  # top_k 0 is none
        if model.id == SMOLLM:
            unset += f", system prompt “{llama.SYSTEM}”"
        size = "" if model.size is None else f"{model.size / 1e6:,.0f}\u00a0MB"  # on one line
        rows.append((model.id, size, model.license, unset, model.place))
    if not rows:
        raise InputError(f"No model on this machine has {text!r} in its name.", "`%together models` alone lists them.")
    note = "%together login gives access to the models of Together."
    return tables.table("model | >size | license | defaults | where", rows, note)
