"""The embedded engine: a small language model of our own, and the server that speaks for it.

`together_nb.local.ngram` is the model (`NgramModel`, `default_model`), `together_nb.local.server` its HTTP face
(`LocalServer`); ``python -m together_nb.local`` serves it until Ctrl-C, and says with ``--help`` what it takes.
`MODEL_ID`, a str, is what a request names.
"""

from __future__ import annotations

MODEL_ID = "local/ngram"
"""The model's id, the only one that the server answers to (unless told to take any)."""
