"""Print the lowest version of each runtime dependency that pyproject.toml allows, as constraints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
kernel = [line for line in project["optional-dependencies"]["lab"] if line.startswith("ipykernel")]
for requirement in (*project["dependencies"], *kernel):
    name, floor = re.match(r"([\w-]+)>=([\w.]+)", requirement).groups()
    print(f"{name}=={floor}")
