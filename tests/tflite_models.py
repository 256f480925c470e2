"""TFLite files as TensorFlow's interpreter sees them."""

from collections import Counter

import numpy as np


def interpreter(content, delegates=True):
    """Opens a model. XNNPACK computes what it can, unless delegates are off."""
    import tensorflow as tf

    kinds = tf.lite.experimental.OpResolverType
    resolver = kinds.AUTO if delegates else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return tf.lite.Interpreter(model_content=bytes(content), experimental_op_resolver_type=resolver)


def run(content, images, delegates=True):
    """Returns the outputs for a batch of images, by name."""
    opened = interpreter(content, delegates)
    [given] = opened.get_input_details()
    opened.resize_tensor_input(given["index"], images.shape)
    return opened.get_signature_runner("serving_default")(images=images)


def ops(content):
    """Counts the operators of a model by their names."""
    opened = interpreter(content, delegates=False)
    opened.allocate_tensors()
    return Counter(one["op_name"] for one in opened._get_ops_details())


def operators_left_by_xnnpack(content):
    """Returns the names of the operators that XNNPACK does not compute, and into how many parts it cuts the graph."""
    opened = interpreter(content)
    opened.allocate_tensors()
    details = opened._get_ops_details()
    parts = [one for one in details if one["op_name"] == "DELEGATE"]
    given = {index for part in parts for index in part["outputs"]}
    outside = []
    for one in details:
        if one["op_name"] != "DELEGATE" and given.isdisjoint(one["outputs"]) and _feeds(one, parts):
            outside.append(one["op_name"])
    return outside, len(parts)


def _feeds(one, parts):
    return any(set(one["outputs"]) & set(part["inputs"]) for part in parts)


def constants(content):
    """Returns the constants of a model by name: values, scales, and the axis of the scales."""
    opened = interpreter(content, delegates=False)
    opened.allocate_tensors()
    outputs = {int(index) for one in opened._get_ops_details() for index in one["outputs"]}
    inputs = {one["index"] for one in opened.get_input_details()}
    found = {}
    for one in opened.get_tensor_details():
        if one["index"] not in outputs | inputs and one["name"]:
            scales = one["quantization_parameters"]
            value = np.array(opened.tensor(one["index"])())
            found[one["name"]] = (value, scales["scales"], scales["quantized_dimension"])
    return found
