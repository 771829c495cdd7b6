"""How the parts are run: opening a run, its stages, executing notebooks, provenance. Nothing here is science."""
