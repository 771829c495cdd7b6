"""What a stage depends on, as digests: code without its comments, notebooks without their outputs.

Nobody lists which code shapes a notebook's results: its digest follows the imports, those inside functions too.
Networks and scores name the rooms that shape them (see `network_folder`), and follow the imports from there. Prepared
frames are known by what they are made from, and by numbers that whoever changes the making has to raise:
`PREPARATION_VERSION` and `GENERATOR_VERSION`.
"""

import ast
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

# Names of profile keys, messages, progress and file formats. The values of a profile stand in every digest themselves.
PLUMBING = ("config.py", "distributed/launch.py", "distributed/process.py", "errors.py", "files.py", "progress.py")


def digest(*parts: str) -> str:
    """SHA-256 of some strings, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part.encode()).digest())
    return total.hexdigest()


def notebook_digest(root: Path, path: Path) -> str:
    """Digest of a notebook's cells, blind to outputs and execution counts, and of all code that they import."""
    cells = (f"{kind}\n{source}" for kind, source in _cells(path))
    return digest(*cells, _digest_of(root, imported_files(root, path)))


def imported_files(root: Path, notebook: Path) -> set[Path]:
    """All code of vqad_lib and beyond that a notebook imports, directly or not, with the files that this code names."""
    code = "\n".join(source for kind, source in _cells(notebook) if kind == "code")
    return _with_imports(root, _imported(root, code))


def _cells(notebook: Path) -> list[tuple[str, str]]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]


def code_digest(root: Path, modules: Iterable[str], *, alone: Iterable[str] = ()) -> str:
    """Digest of code that shapes a network or its scores: some modules, and all that they import but `PLUMBING`.

    Blind to comments, docstrings and layout.

    Args:
        modules: names under vqad_lib, for example "models" (a folder) or "data/splits.py".
        alone: modules that count without what they import.
    """
    package = root / "vqad_lib"
    starts = [file for name in modules for file in _python_files(package / name)]
    files = _with_imports(root, starts) | {package / name for name in alone}
    return _digest_of(root, files - {file for name in PLUMBING for file in _python_files(package / name)})


def _python_files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _with_imports(root: Path, starts: Iterable[Path]) -> set[Path]:
    """The files, those of ours that they import, and so on; and the files beside the code that they name."""
    found, waiting = set(), list(starts)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            text = file.read_text(encoding="utf-8")
            waiting += _named(root, file, text)
            waiting += _imported(root, text) if file.suffix == ".py" else []
    return found


def _imported(root: Path, code: str) -> Iterator[Path]:
    for name in (name for name in _parsed(code)[0] if name.split(".")[0] in ("vqad_lib", "beyond")):
        place = root / name.replace(".", "/")
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


@functools.cache  # most notebooks import the same
def _parsed(code: str) -> tuple[set[str], str]:
    """The names of all modules that code may import, and its tree without docstrings."""
    names, tree = set(), ast.parse(code)
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                names |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str()):
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        match getattr(node, "body", None):
            case [ast.Expr(ast.Constant()), *_]:
                del node.body[0]
    return names, ast.dump(tree)


def _named(root: Path, file: Path, text: str) -> Iterator[Path]:
    """Templates, style sheets and the paper's numbers: files of that name beside the module or in data/paper."""
    for name in set(re.findall(r'"([\w-]+(?:\.[\w-]+)+)"', text)):
        for place in (file.parent / name, root / "data" / "paper" / name):
            if place.is_file():
                yield place


def _digest_of(root: Path, files: Iterable[Path]) -> str:
    return digest(*(f"{file.relative_to(root).as_posix()}\n{_essence(file)}" for file in sorted(files)))


def _essence(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    return _parsed(text)[1] if file.suffix == ".py" else text
