"""For nbval: a loaded or another machine is no difference; outputs that it compares lie in tests/stored_outputs.

The notebooks themselves show those of a real run, see tests/store_outputs.py.
"""

import functools
import json
from pathlib import Path

import nbformat

STORED = Path(__file__).resolve().parents[1] / "tests" / "stored_outputs"


def pytest_itemcollected(item) -> None:
    """Wait longer than nbval's 5 s for a message of the kernel, and do not compare warnings."""
    item.output_timeout = 120
    if "stderr" not in item.parent.skip_compare:
        item.parent.skip_compare += ("stderr",)
    item.cell.outputs = nbformat.from_dict(_compared(item.path.stem).get(item.cell.id, []))


@functools.cache
def _compared(notebook: str) -> dict[str, list]:
    return json.loads((STORED / f"{notebook}.json").read_text())
