"""The command line, configuring a run, executing its notebooks, provenance. No science."""
