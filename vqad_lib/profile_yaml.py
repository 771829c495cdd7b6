"""Profiles as people write them: YAML without its traps, and what is wrong with a file, in one line."""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from vqad_lib.errors import VqadError

_PLAIN_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_MERGE = "tag:yaml.org,2002:merge"
_UNQUOTED = "; write it without quotes"
_HINTS = {
    "int_type": _UNQUOTED,
    "bool_type": _UNQUOTED,
    "float_type": f"{_UNQUOTED}, and 1e-4 as 1.0e-4",
    "string_pattern_mismatch": "; use letters, digits, _, - and . alone",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader takes the last of equal keys without a word, reads 010 as 8 and 1:30 as 90."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.tag != _MERGE and str(key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value} is given twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return node

    def plain_whole_number(self, node: yaml.ScalarNode) -> int:
        if not _PLAIN_WHOLE.fullmatch(node.value):
            problem = f"{node.value} is not a plain whole number; write its digits alone, without a leading 0"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.plain_whole_number)


def read_yaml(path: Path) -> Any:
    """What a YAML file says, in UTF-8 or UTF-16.

    Raises:
        VqadError: it is missing, unreadable or not YAML, or gives a key twice.
    """
    try:
        return yaml.load(path.read_bytes(), _Loader)
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml") if p.is_file())) or "none"
        raise VqadError(f"cannot read profile {path}: {error.strerror}; profiles there: {known}") from error
    except yaml.MarkedYAMLError as error:
        hint = "; indent with spaces, not tabs" if "found character '\\t'" in str(error) else ""
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise VqadError(f"{path} is not valid YAML: {where}{' '.join(str(error.problem).split())}{hint}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # another encoding; thousands of digits or brackets
        problem = " ".join(str(error).split())
        raise VqadError(f"{path} is not valid YAML: {problem}; save it as plain text in UTF-8") from error


def in_words(error: ValidationError) -> str:
    """The first problem that pydantic found: key, what it must be, what was got, and for slips of YAML the remedy."""
    first = error.errors()[0]
    key, kind, value = ".".join(map(str, first["loc"])) or "(top level)", first["type"], first["input"]
    if kind in ("unexpected_keyword_argument", "missing"):
        return f"{key}: {'unknown' if kind != 'missing' else 'missing'} key"
    problem = re.sub(r"^(Value error, must|\w+ should) ", "must ", first["msg"])
    if kind == "dataclass_type":
        problem = "must hold keys, each with its value"
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    hint = _HINTS.get(kind, "") if isinstance(value, str) else ""
    if kind == "string_type" and value is not None:
        hint = "; put it in quotes"
    return f"{key}: {problem}, got {shown}{hint}"
