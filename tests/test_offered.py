"""The code of an answer as a new cell: what is in it."""

from __future__ import annotations

import pytest

from together_nb.magic.offered import cell_of


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ("no code", ""),
        ("`x = 1`", ""),
        ("Do:\n```python\nx = 1\n```\nThen that.", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("~~~py\nx = 1\n~~~", "x = 1"),
        ("```python\nx = 1\n```\nand\n```python\ny = 2\n```", "x = 1\n\ny = 2"),
        ("```python\nx = 1\n```\nand\n```text\nout\n```", "x = 1"),
        ("```bash\nls\n```", "%%bash\nls"),
        ("```rust\nfn main() {}\n```", "# rust:\n# fn main() {}"),
        ("````python\ns = '''```'''\n````", "s = '''```'''"),
        ("```python\nx = 1", "x = 1"),
        ("- a\n  ```python\n  x = 1\n  ```", "x = 1"),
    ],
)
def test_the_new_cell_holds_the_code_of_the_first_blocks_language(answer, cell):
    assert cell_of(answer) == cell
