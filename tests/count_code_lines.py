"""Count the code lines of a Python package, no blanks, comments or docstrings, and its modules (no `__init__.py`).

python tests/count_code_lines.py [FOLDER]
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(path: Path) -> int:
    """Lines of a module on which code stands."""
    text = path.read_text(encoding="utf-8")
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def by_room(package: Path) -> tuple[Counter, Counter]:
    """Code lines and modules by folder below the package; "." is the package itself."""
    lines, modules = Counter(), Counter()
    for path in sorted(set(package.rglob("*.py")) - set(package.rglob("__init__.py"))):
        room = path.relative_to(package).parts[0] if path.parent != package else "."
        lines[room] += code_lines(path)
        modules[room] += 1
    return lines, modules


if __name__ == "__main__":
    counted, found = by_room(Path(sys.argv[1] if len(sys.argv) > 1 else "vqad_lib"))
    for name, count in counted.most_common():
        print(f"{name:<14}{count:6} lines {found[name]:4} modules")
    print(f"{'total':<14}{counted.total():6} lines {found.total():4} modules")
