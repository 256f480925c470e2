"""Checks ONNX models, and runs them in ONNX Runtime and in onnx's own evaluator.

    python run_onnx.py TASK.json ANSWER.json

It needs onnx and onnxruntime. It makes no judgements: tests do.

TASK.json: {"modules": [{
    "model": the `.onnx` file,
    "images": npz with `images`, what the model takes,
    "outputs": where to write what ONNX Runtime gives for them, npz by name,
    "evaluated": where to write what onnx's evaluator gives for the first of them, npz by name, optional}, ...]}
ANSWER.json: {"onnx", "onnxruntime", "modules": [{
    "inputs": {name: [dtype, shape]},
    "outputs": {name: [dtype, shape]},
    "inferred": the outputs as shape inference has them, {name: shape}}, ...]}
"""

import json
import sys

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
import onnxruntime


def main(task_file, answer_file):
    with open(task_file) as f:
        tasks = json.load(f)["modules"]
    versions = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    with open(answer_file, "w") as f:
        json.dump({**versions, "modules": [run(task) for task in tasks]}, f)


def run(task):
    model = onnx.load(task["model"])
    onnx.checker.check_model(model, full_check=True)
    with np.load(task["images"]) as given:
        images = given["images"]
    session = onnxruntime.InferenceSession(task["model"], providers=["CPUExecutionProvider"])
    [name] = [one.name for one in session.get_inputs()]
    outputs = [one.name for one in session.get_outputs()]
    np.savez(task["outputs"], **dict(zip(outputs, session.run(outputs, {name: images}))))
    if "evaluated" in task:
        evaluated = ReferenceEvaluator(model).run(outputs, {name: images[:1]})
        np.savez(task["evaluated"], **dict(zip(outputs, evaluated)))
    return {
        "inputs": {one.name: [one.type, one.shape] for one in session.get_inputs()},
        "outputs": {one.name: [one.type, one.shape] for one in session.get_outputs()},
        "inferred": inferred_shapes(model),
    }


def inferred_shapes(model):
    """Returns the shapes that inference finds for outputs whose own are taken away."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    return {
        output.name: [one.dim_param or one.dim_value or None for one in output.type.tensor_type.shape.dim]
        for output in inferred.graph.output
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
