"""Runs a SavedModel through TensorFlow's C API, which has the same loader as TensorFlow Serving.

python -m tests.cpp_loader MODULE_DIR INPUT_TENSOR OUTPUT_TENSOR IMAGES.npy OUTPUTS.npy

No Python code of TensorFlow is involved: `TF_LoadSessionFromSavedModel` runs `tensorflow::LoadSavedModel`, which reads
the graph, the saver and the signatures, but not the objects.
"""

import ctypes
import importlib.util
from pathlib import Path
import sys

import numpy as np

_FLOAT = 1


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def _library() -> ctypes.CDLL:
    folder = Path(importlib.util.find_spec("tensorflow").origin).parent
    ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    for name in ("Status", "Graph", "SessionOptions"):
        getattr(library, f"TF_New{name}").restype = ctypes.c_void_p
    library.TF_LoadSessionFromSavedModel.restype = ctypes.c_void_p
    library.TF_GraphOperationByName.restype = ctypes.c_void_p
    library.TF_AllocateTensor.restype = ctypes.c_void_p
    library.TF_TensorData.restype = ctypes.c_void_p
    library.TF_TensorByteSize.restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_Message.restype = ctypes.c_char_p
    return library


def serve(module: str, input_tensor: str, output_tensor: str, images: np.ndarray) -> np.ndarray:
    """Loads a SavedModel tagged `serve`, and returns an output for images."""
    tf = _library()
    pointer = ctypes.c_void_p
    status, graph, options = (pointer(new()) for new in (tf.TF_NewStatus, tf.TF_NewGraph, tf.TF_NewSessionOptions))

    def check() -> None:
        if tf.TF_GetCode(status):
            raise RuntimeError(tf.TF_Message(status).decode())

    tags = (ctypes.c_char_p * 1)(b"serve")
    session = pointer(tf.TF_LoadSessionFromSavedModel(options, None, module.encode(), tags, 1, graph, None, status))
    check()

    def output(name_and_index: str) -> _Output:
        name, _, index = name_and_index.partition(":")
        return _Output(tf.TF_GraphOperationByName(graph, name.encode()), int(index))

    dims = (ctypes.c_int64 * images.ndim)(*images.shape)
    tensor = pointer(tf.TF_AllocateTensor(_FLOAT, dims, images.ndim, ctypes.c_size_t(images.nbytes)))
    ctypes.memmove(tf.TF_TensorData(tensor), images.ctypes.data, images.nbytes)
    result = (ctypes.c_void_p * 1)()
    inputs, outputs = (_Output * 1)(output(input_tensor)), (_Output * 1)(output(output_tensor))
    tf.TF_SessionRun(
        *(session, None, inputs, (ctypes.c_void_p * 1)(tensor.value), 1, outputs, result, 1),
        *(None, 0, None, status),
    )
    check()
    fetched = pointer(result[0])
    shape = [tf.TF_Dim(fetched, axis) for axis in range(tf.TF_NumDims(fetched))]
    data = ctypes.string_at(tf.TF_TensorData(fetched), tf.TF_TensorByteSize(fetched))
    return np.frombuffer(data, np.float32).reshape(shape)


if __name__ == "__main__":
    np.save(sys.argv[5], serve(*sys.argv[1:4], np.load(sys.argv[4]).astype(np.float32)))
