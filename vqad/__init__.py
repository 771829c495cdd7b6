"""The method as a tool for a person's own images: fitted to normal ones, it scores others and shows where they are not.

`vqad_lib` holds the models and detectors; this uses it, and nothing of it uses this but the command line.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    if name == "VQAnomalyDetector":  # torch takes seconds to import
        from vqad.estimator import VQAnomalyDetector

        return VQAnomalyDetector
    raise AttributeError(name)
