"""Records what goes over the wire, and plays it back: `record`, `replay`, `stop`."""

from __future__ import annotations

from together_nb.recording.control import record, replay, stop

__all__ = ["record", "replay", "stop"]
