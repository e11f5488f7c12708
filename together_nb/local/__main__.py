"""``python -m together_nb.local``: the embedded engine on a port, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys

from together_nb.local import MODEL_ID
from together_nb.local.server import LocalServer


def main(arguments: list[str] | None = None) -> int:
    """Serve until Ctrl-C and return the exit status.

    Parameters
    ----------
    arguments
        The command-line arguments; None reads `sys.argv`.
    """
    options = _parser().parse_args(arguments)
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
    body = f'{{"model": "{MODEL_ID}", "prompt": "Alan Turing was", "stream": true}}'
    try:
        print(  # noqa: T201
            f"{MODEL_ID} serves at {server.base_url}  Try: curl -N {server.base_url}/v1/completions{key} -d '{body}'",
            flush=True,
        )
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m together_nb.local", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TCP port on 127.0.0.1; 0, the default, takes a free one")
    parser.add_argument("--tokens-per-second", type=float, help="how fast each answer comes (default: at once)")
    parser.add_argument("--api-key", help="the key to ask for (default: none); the list of processes shows it")
    parser.add_argument("--any-model", action="store_true", help=f"answer whatever model is asked for with {MODEL_ID}")
    parser.add_argument("--verbose", action="store_true", help="write a line to stderr for each request")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
