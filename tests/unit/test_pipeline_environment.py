"""What passes of the user's environment variables."""

from pathlib import Path

from vqad_lib.pipeline.environment import own_environment

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
    *("MATPLOTLIBRC", "LOKY_MAX_CPU_COUNT"),
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
