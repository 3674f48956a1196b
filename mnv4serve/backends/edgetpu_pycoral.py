"""Google's pycoral where it is installed: it brings a runtime that fits its libedgetpu.

PyPI's package of that name is another project's and is passed over. Importing the real one loads
native code, so a child process does it first.
"""

import importlib
from types import ModuleType

_NAMES = ("list_edge_tpus", "load_edgetpu_delegate", "get_runtime_version")
"""What only Google's has, in `pycoral.utils.edgetpu`."""


def pycoral_runtime() -> tuple[ModuleType, str] | None:
    """The interpreter module that Google's pycoral works with, and what it says of libedgetpu.

    None where there is no pycoral, a stranger of that name, or one that does not work here.
    """
    try:
        coral = importlib.import_module("pycoral.utils.edgetpu")
        runtime = importlib.import_module("tflite_runtime.interpreter")
        if not all(callable(getattr(coral, name, None)) for name in _NAMES):
            return None
        version = str(coral.get_runtime_version())
    except Exception:  # noqa: BLE001 - whatever a native part that does not fit raises
        return None
    return (runtime, version) if _works(runtime) else None


def _works(runtime: ModuleType) -> bool:
    """Old builds fail with newer NumPy before they have looked at a model."""
    try:
        runtime.Interpreter(model_content=b"no model")
    except ValueError:
        return True
    except Exception:  # noqa: BLE001 - see above
        return False
    return False
