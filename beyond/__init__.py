"""What goes past the paper: it uses `vqad_lib`, and nothing there uses it."""
