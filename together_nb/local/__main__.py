"""``python -m together_nb.local``: the models of this machine on a port, until Ctrl-C; ``get`` fetches one."""

from __future__ import annotations

import argparse
import signal
import sys

from together_nb.errors import TogetherError
from together_nb.local.models import served_models
from together_nb.local.server import LocalServer
from together_nb.values.local_models import NGRAM


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C and return the exit status.

    Parameters
    ----------
    arguments
        The command-line arguments; None reads `sys.argv`.
    """
    options = _parser().parse_args(arguments)
    return _get(options) if options.command == "get" else _serve(options)


def _serve(options: argparse.Namespace) -> int:
    try:
        server = LocalServer(
            port=options.port,
            tokens_per_second=options.tokens_per_second,
            api_key=options.api_key,
            any_model=options.any_model,
            verbose=options.verbose,
        )
    except (OSError, OverflowError) as error:
        print(  # noqa: T201
            f"Port {options.port} cannot be used: {error}. --port 0 takes a free one.",
            file=sys.stderr,
        )
        return 1
    key = ' -H "Authorization: Bearer YOUR_KEY"' if options.api_key is not None else ""
    models = served_models()
    body = f'{{"model": "{models[0]}", "prompt": "Alan Turing was", "stream": true}}'
    try:
        print(  # noqa: T201
            f"{' and '.join(models)} at {server.base_url}  Try: curl -N {server.base_url}/v1/completions{key} -d '{body}'",
            flush=True,
        )
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


def _get(options: argparse.Namespace) -> int:
    from together_nb.local.get import get_model

    # Ended by another program, it clears up as it does after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def report(words: str) -> None:
        print(words, flush=True)  # noqa: T201

    try:
        model = get_model(options.source, options.sha256, report)
    except TogetherError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing is kept.", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{model} is ready.")  # noqa: T201
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m together_nb.local", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0, the default, takes a free one")
    parser.add_argument(
        "--tokens-per-second", type=float, help=f"how fast each answer of {NGRAM} comes (default: at once)"
    )
    parser.add_argument("--api-key", help="the key to ask for (default: none); the list of processes shows it")
    parser.add_argument("--any-model", action="store_true", help=f"{NGRAM} answers for every unknown model")
    parser.add_argument("--verbose", action="store_true", help="write a line to stderr for each request")
    commands = parser.add_subparsers(dest="command", metavar="get")
    get = commands.add_parser("get", help="fetch SmolLM2-135M, or add another model file, and end")
    get.add_argument("source", nargs="?", metavar="PATH_OR_URL.gguf", help="the other file")
    get.add_argument("--sha256", metavar="HEX", help="what the SHA-256 of that file must be")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
