"""Print the lowest version of each runtime dependency that pyproject.toml allows, as constraints."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
kernel = [line for line in project["optional-dependencies"]["lab"] if line.startswith("ipykernel")]
for requirement in (*project["dependencies"], *kernel):
    name, floor = re.match(r"([\w-]+)>=([\w.]+)", requirement).groups()
    print(f"{name}=={floor}")
