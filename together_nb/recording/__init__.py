"""Record what goes over the wire, and replay it: `record`, `replay`, `stop`."""

from __future__ import annotations

from together_nb.recording.control import record, replay, stop

__all__ = ["record", "replay", "stop"]
