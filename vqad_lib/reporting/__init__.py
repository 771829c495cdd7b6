"""Turning results into what a person reads: tables, figures and one page, each beside the paper's own numbers.

``tables`` and ``figures`` write single files; ``plots``, ``grids`` and ``diagrams`` draw; ``comparison`` sets ours
beside the paper's, and ``report`` puts all on one HTML page. Nothing here computes a score.
"""
