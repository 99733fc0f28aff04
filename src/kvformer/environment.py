"""What a process must not inherit: a notebook, a batch script or a shell profile sets variables for its own programs.

Results and their files must not depend on them, so every job and every command starts from the values below. Variables
that choose GPUs, proxies or an MLflow server are left alone.
"""

import os
import sys
import warnings
from io import TextIOWrapper

FIXED = {
    "MPLBACKEND": "Agg",  # figures are files; a notebook's backend is not installed here
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8:backslashreplace",  # of log files, whatever the terminal can show
    "PYTHONSAFEPATH": "1",  # a file `numpy.py` in the working directory is not the package
}
REMOVED = (
    # They tie the threads of every process to the same cores, or change how many there are.
    *("OMP_PROC_BIND", "OMP_PLACES", "OMP_DYNAMIC", "OMP_THREAD_LIMIT", "GOMP_CPU_AFFINITY"),
    *("KMP_AFFINITY", "KMP_HW_SUBSET", "MKL_DYNAMIC", "MKL_DOMAIN_NUM_THREADS"),
    # They change the precision of matrix products, which is the study's to choose.
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
    # They turn warnings into errors, drop docstrings, or wait for input at the end.
    *("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONDEVMODE"),
    # They send runs elsewhere than the tracking address says, or write them later than it is reported.
    *("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"),
    *("MLFLOW_BACKEND_STORE_URI", "MLFLOW_READ_REPLICA_BACKEND_STORE_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"),
    *("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_STATIC_PREFIX", "MLFLOW_ENABLE_ASYNC_LOGGING"),
)


def settle() -> None:
    """Set and remove the variables above, for this process and those that it starts, and replace in its output what the
    terminal cannot encode.

    To be called before PyTorch, Matplotlib or MLflow is imported: they read their variables once.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if os.environ.get("PYTHONWARNINGS"):  # Python has acted on it already: back to Python's own filters
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
    for name in REMOVED:
        os.environ.pop(name, None)
    os.environ.update(FIXED)
