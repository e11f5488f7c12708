"""The panel: a model, its sliders and its live answer, in widgets."""

from __future__ import annotations

from together_nb.panel.panel import Panel

__all__ = ["Panel"]
