"""The engines that run modules on images. Imports nothing heavy, so that the command line can show them at once."""

import importlib.util
from typing import Literal, get_args

from hubexport.errors import check_choice
from hubexport.extras import require_extras

Engine = Literal["tensorflow", "onnx"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


def usable_engine(engine: Engine | None, needed_for: str, *extras: str) -> Engine:
    """Returns the engine that runs modules: the caller's, or else TensorFlow if it is installed, or else ONNX Runtime.

    Args:
        engine: the caller's choice.
        needed_for: what needs an engine, as the subject of a sentence, like "hubexport classify".
        extras: what else it needs.
    Raises:
        UsageError: there is no such engine.
        MissingExtraError: packages are missing. If there is no engine at all, the error names those of TensorFlow.
    """
    if engine is not None:
        check_choice("engine", engine, ENGINES)
    elif _installed("tensorflow") or not _installed("onnxruntime"):
        engine = "tensorflow"
    else:
        engine = "onnx"
    require_extras(needed_for, engine, *extras)
    return engine


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
