"""Turning results into what a person reads: tables, figures and one page, each beside the paper's own numbers.

``paper`` holds what the paper prints, ``tables`` and ``figures`` write single files, ``report`` puts them on
one HTML page. Nothing here computes a score.
"""
