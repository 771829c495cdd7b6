"""Tables 1 and 2: the live model's shapes beside the paper's lines."""

import re
from difflib import SequenceMatcher

import pandas as pd

from vqad_lib.reporting.paper_numbers import reported


def beside_paper_shapes(rows: list[dict[str, str | int]], *, table: int) -> pd.DataFrame:
    """Put our lines beside the paper's, in order; a smaller profile lacks some of them.

    Lines are paired by what they do, whatever the number of blocks: the longest runs of equal lines first. So a
    profile with one level less leaves one line of the paper's alone, and the others stand beside their like.

    Args:
        rows: component, height, width, channels, see `shape_rows`; the first is the input.
        table: 1 or 2.

    Returns:
        component, component_in_paper, height, width, channels, paper_height, paper_width, paper_channels; missing
        where a line has no partner. Every line of the paper's is there, in its order.
    """
    ours = pd.DataFrame(rows)
    paper = reported(table).reset_index(drop=True)
    theirs = paper[["component", "height", "width", "channels"]].add_prefix("paper_")
    theirs = theirs.rename(columns={"paper_component": "component_in_paper"})
    left, right = _aligned(_kinds(ours["component"]), _kinds(paper["component"]))
    pairs = [frame.reindex(at).reset_index(drop=True) for frame, at in ((ours, left), (theirs, right))]
    both = pd.concat(pairs, axis=1)
    both.insert(1, "component_in_paper", both.pop("component_in_paper"))
    return both.astype({column: "Int64" for column in both if "component" not in column})


def _kinds(components: pd.Series) -> list[str]:
    """What each line does, without the number of its blocks; the input has another name in either table."""
    return ["input"] + [re.sub(r" × \d+", "", component) for component in components[1:]]


def _aligned(ours: list[str], theirs: list[str]) -> tuple[list[int], list[int]]:
    """Rows of ours and of theirs, side by side; -1 where there is none."""
    left: list[int] = []
    right: list[int] = []
    for tag, a, a_end, b, b_end in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        alone = tag != "equal"
        left += [*range(a, a_end), *([-1] * (b_end - b) if alone else [])]
        right += [*([-1] * (a_end - a) if alone else []), *range(b, b_end)]
    return left, right
