"""``%%together`` and ``%together``."""

from __future__ import annotations

from together_nb.magic.magics import TogetherMagics

__all__ = ["TogetherMagics"]
