"""Pure functions of tensors, one equation each; no network, no state."""
