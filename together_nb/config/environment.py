"""The key and the base URL of the environment, read once, when together_nb is imported.

A notebook can change environment variables. If they were read at each use, a key given for one server would go to any
server that a cell names later.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

KEY_VARIABLE = "TOGETHER_API_KEY"
BASE_URL_VARIABLE = "TOGETHER_BASE_URL"


@dataclass(frozen=True)
class Environment:
    """The environment variables.

    Parameters
    ----------
    key
        The API key, or "".
    base_url
        The server's address as given, or "".
    """

    key: str = field(repr=False)
    base_url: str

    @classmethod
    def read(cls) -> Environment:
        """Read the environment as it is now."""
        return cls(os.environ.get(KEY_VARIABLE, "").strip(), os.environ.get(BASE_URL_VARIABLE, "").strip())

    @property
    def late(self) -> str:
        """A sentence about the variables that changed after the import, and so are not used; "" if there are none."""
        now = Environment.read()
        names = [
            name
            for name, value, used in (
                (KEY_VARIABLE, now.key, self.key),
                (BASE_URL_VARIABLE, now.base_url, self.base_url),
            )
            if value and value != used
        ]
        return f"{' and '.join(names)} changed after together_nb was imported, which has no effect." if names else ""


environment = Environment.read()
"""The environment at the import."""
