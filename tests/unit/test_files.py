"""Files are written whole or not at all, and errors name the path."""

import errno
import os
from pathlib import Path

import pytest

from vqad_lib.errors import VqadError
from vqad_lib.files import atomic_path, first_line, read_json, write_bytes, write_json, write_text


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_path_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "table.csv"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"  # writers go by the suffix
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(path.parent) == ["table.csv"]


def test_atomic_path_keeps_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_text(path, "old")

    def half_written() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk_is_one_line_that_names_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "weights.bin"
    write_bytes(path, b"old")

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(VqadError, match="No space left on device") as caught:
        write_bytes(path, b"new")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["weights.bin"]


def test_a_writer_that_made_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VqadError, match="cannot write"), atomic_path(tmp_path / "nothing.txt"):
        pass
    assert names_in(tmp_path) == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VqadError, match=r"cannot write .*file/inside\.txt"):
        write_text(tmp_path / "file" / "inside.txt", "text")


def test_json_goes_out_sorted_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": [1, 2.5], "a": "ü"})
    assert list(read_json(path)) == ["a", "b"]
    assert read_json(path) == {"b": [1, 2.5], "a": "ü"}
    assert path.read_bytes().endswith(b"\n}\n")


def test_missing_and_damaged_json_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(VqadError, match=r"cannot read .*absent\.json: No such file"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(VqadError, match=r"half\.json is not valid JSON"):
        read_json(tmp_path / "half.json")


@pytest.mark.parametrize(
    ("error", "line"), [(ValueError("one\ntwo"), "one"), (EOFError(), "EOFError"), (OSError("\n text"), "text")]
)
def test_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line
