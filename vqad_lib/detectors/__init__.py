"""The four detectors: sample-wise, pixel-wise and light pixel-wise restoration, regenerative (section 3.6)."""
