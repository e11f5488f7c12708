"""The names of the models on this machine."""

from __future__ import annotations

PREFIX = "local/"
"""What their names begin with."""
NGRAM = "local/ngram"
"""The n-gram model, which is a part of the package."""
SMOLLM = "local/smollm2-135m"
"""SmolLM2-135M, which ``%together get`` fetches."""
