"""One training loop, one early-stopping rule, one checkpoint format; the loss is an argument."""
