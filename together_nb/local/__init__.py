"""The embedded engine: a small language model and its server.

`together_nb.local.ngram` is the model (`NgramModel`, `default_model`), `together_nb.local.server` its HTTP server
(`LocalServer`); ``python -m together_nb.local`` serves it until Ctrl-C, and ``--help`` lists the options.
`MODEL_ID`, a str, is the model that a request names.
"""

from __future__ import annotations

MODEL_ID = "local/ngram"
"""The model's id, the only one that the server accepts without `any_model`."""
