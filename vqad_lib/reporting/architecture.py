"""Tables 1 and 2: the live model's shapes beside the paper's lines."""

import pandas as pd

from vqad_lib.reporting.paper_numbers import reported


def beside_paper_shapes(rows: list[dict[str, str | int]], *, table: int) -> pd.DataFrame:
    """Put our lines beside the paper's, in order; a smaller profile has fewer of them.

    Args:
        rows: component, height, width, channels, see `shape_rows`.
        table: 1 or 2.

    Returns:
        component, height, width, channels, component_in_paper, paper_height, paper_width, paper_channels.
    """
    ours = pd.DataFrame(rows)
    paper = reported(table).reset_index(drop=True)
    theirs = (
        paper[["component", "height", "width", "channels"]]
        .add_prefix("paper_")
        .rename(columns={"paper_component": "component_in_paper"})
    )
    return pd.concat([ours, theirs], axis=1).astype(
        {c: "Int64" for part in (ours, theirs) for c in part if "component" not in c}
    )
