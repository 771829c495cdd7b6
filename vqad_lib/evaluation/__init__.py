"""How well scores tell anomalous images from normal ones: two kinds of metrics side by side, with bootstrap intervals.

The paper's metrics scans the threshold on the data being reported, so that numbers can be compared with the paper's.
Held-out selection chooses threshold and percentile on validation and takes the areas from the scores themselves.

Everywhere: labels are 0 (normal) or 1 (anomalous), higher scores are more anomalous, and an image is called anomalous
when score >= threshold.
"""
