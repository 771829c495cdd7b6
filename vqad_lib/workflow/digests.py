"""What a stage depends on, as digests: code without its comments, notebooks without their outputs."""

import ast
import hashlib
import json
from pathlib import Path


def digest(*parts: str) -> str:
    """SHA-256 of some strings, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode()).digest())
    return total.hexdigest()


def code_digest(root: Path, packages: list[str]) -> str:
    """Digest of the Python code of some parts of vqad_lib, blind to comments, docstrings and layout.

    Args:
        packages: names under vqad_lib, for example "models" (a folder) or "config.py".
    """
    files: list[Path] = []
    for package in packages:
        place = root / "vqad_lib" / package
        files += sorted(place.rglob("*.py")) if place.is_dir() else [place]
        files += sorted(place.rglob("*.j2"))
    return digest(*(f"{file.relative_to(root)}\n{_essence(file)}" for file in files))


def _essence(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            del body[0]
    return ast.dump(tree)


def notebook_digest(path: Path) -> str:
    """Digest of a notebook's cells, blind to outputs and execution counts."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return digest(*(f"{cell['cell_type']}\n{''.join(cell['source'])}" for cell in cells))
