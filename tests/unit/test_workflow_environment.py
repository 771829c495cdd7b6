"""What passes of the user's environment variables, and where kernels listen."""

import os
import tempfile
from pathlib import Path

import pytest

from vqad_lib.errors import VqadError
from vqad_lib.workflow import environment
from vqad_lib.workflow.environment import own_environment, socket_folder

PASSES = {
    "PATH": "/usr/bin",
    "HOME": "/home/somebody",
    "PYTHON": "python3",
    "PYTHONPATH": "/checkout",
    "PYTHONUSERBASE": "/packages",
    "CUDA_VISIBLE_DEVICES": "",
    "HTTPS_PROXY": "http://proxy:3128",
    "TORCH_HOME": "/weights",
    "XDG_CACHE_HOME": "/cache",
    "OMP_NUM_THREADS": "1",
    "TMPDIR": "/scratch",
    "LD_LIBRARY_PATH": "/cuda/lib64",
    "SSL_CERT_FILE": "/ca.pem",
    "REQUESTS_CA_BUNDLE": "/ca.pem",
    "VQAD_DEVICES": "2",
    "SLURM_PROCID": "0",
    "GIT_CONFIG_COUNT": "1",
    "JUPYTER_TOKEN": "secret",
    "LC_ALL": "C",
}
LEFT_OUT = {
    *("PYTHONSTARTUP", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONIOENCODING", "PYTHONSAFEPATH"),
    *("PYTHONDEVMODE", "PYTHON_COLORS", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TQDM_DISABLE", "MPLBACKEND"),
    *("JUPYTER_NO_CONFIG", "JUPYTER_CONFIG_PATH", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JPY_PARENT_PID"),
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "PYTEST_ADDOPTS", "PYTEST_PLUGINS", "NBVAL_X", "PAPERMILL_X"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "NVIDIA_TF32_OVERRIDE", "ONEDNN_DEFAULT_FPMATH_MODE", "SKLEARN_X"),
    "MATPLOTLIBRC",
}
OURS = {
    *("PYTHONHASHSEED", "PYTHONUTF8", "PYDEVD_DISABLE_FILE_VALIDATION", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR"),
    *("JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLCONFIGDIR"),
}


def test_what_passes_what_does_not_and_what_is_ours():
    root = Path("/checkout")
    own = own_environment(PASSES | dict.fromkeys([*LEFT_OUT, *OURS], "the user's"), root)
    assert {name: own.get(name) for name in PASSES} == PASSES
    assert set(own) == {*PASSES, *OURS}
    assert "the user's" not in own.values()
    assert own_environment(own, root) == own, "or a program would start itself again and again"


def test_kernels_listen_in_tmpdir(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", tempfile.mkdtemp(dir="/tmp"))
    try:
        with socket_folder() as folder:
            assert Path(folder).parent == Path(tempfile.tempdir)
        assert not Path(folder).exists()
    finally:
        os.rmdir(tempfile.tempdir)


@pytest.mark.parametrize("kind", ["long", "file", "absent"])
def test_kernels_listen_in_tmp_where_tmpdir_will_not_do(tmp_path, monkeypatch, kind):
    place = tmp_path / ("scratch_of_a_job_" * 6 if kind == "long" else "scratch")
    if kind == "long":
        place.mkdir()
    elif kind == "file":
        place.touch()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with socket_folder() as folder:
        assert Path(folder).parent == Path("/tmp")
        assert len(folder) < 40
    assert not Path(folder).exists()
    assert kind != "long" or not list(place.iterdir()), "the trial left something behind"


def test_nowhere_to_listen_is_one_line(monkeypatch):
    def refuses(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", "/scratch")
    monkeypatch.setattr(environment.tempfile, "TemporaryDirectory", refuses)
    with pytest.raises(VqadError) as caught, socket_folder():
        pass
    assert str(caught.value) == (
        "kernels need a folder for sockets, and cannot have one (/scratch: No space left on device; "
        "/tmp: No space left on device); set TMPDIR to a short path that can be written"
    )


def test_errors_within_the_block_are_not_taken_for_its_own():
    with pytest.raises(OSError, match="mine"), socket_folder():
        raise OSError("mine")
