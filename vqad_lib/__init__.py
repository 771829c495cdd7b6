"""vqad: vector-quantised image anomaly detection, from frames to the paper's tables.

The package is thin on purpose. ``models`` holds architecture, ``losses`` one equation per function, ``training`` one
loop, ``detectors`` the four scores, ``evaluation`` metrics, ``reporting`` tables, figures and the page. The notebooks
tell the story and are the only place where the parts meet.
"""

__version__ = "0.1.0"
