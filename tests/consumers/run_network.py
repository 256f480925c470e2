"""Computes with modules of one network what reference files list of it, in inference and in training.

    python run_network.py TASK.json ANSWER.json

It needs only a TensorFlow from 1.15 on and a tensorflow_hub of the same time, so it is written for Python 3.7. It makes
no judgements.

TASK.json: {"modules": [{
    "path",
    "is_tf1": whether the module is in the TF1 Hub format,
    "inputs": npz with arrays of images, float32 [batch, height, width, 3] in [0, 1]: `images`, and optionally
        `other_images` of another size and `training_images`; and for each endpoint to sample `indices:KEY`, int64 [n],
        flat positions in its value for `images`,
    "outputs": where to write what was computed, npz,
    "momenta": those to update the moving averages with in training; null is the module's default, which is all that
        versions 1 and 2 have}, ...]}
ANSWER.json: {"tensorflow", "modules": [{"keys": those of all outputs, "update_ops": their number, if the format lists
    them}, ...]}

The outputs are the default output of each signature as `SIGNATURE`, and as `other:SIGNATURE` for the other images;
`endpoint:KEY`, the samples, and `endpoint_mean:KEY`; and of training `train:SIGNATURE`, `losses`, and for each momentum
`MOMENTUM:VARIABLE`, the values after one update of the variables that are not trained.
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow  # noqa: E402
import tensorflow_hub as hub  # noqa: E402

tf = tensorflow.compat.v1

SIGNATURES = ("image_feature_vector", "image_classification")
# What a TF2 module is called with stands for a signature.
CALL = "call"


def main(task_file, answer_file):
    with open(task_file) as f:
        task = json.load(f)
    answer = {"tensorflow": tensorflow.__version__, "modules": [run(module) for module in task["modules"]]}
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def run(module):
    with np.load(module["inputs"]) as arrays:
        inputs = {key: arrays[key] for key in arrays.files}
    if not module["is_tf1"]:
        outputs, facts = run_saved_model(module, inputs)
    elif hasattr(hub, "Module"):
        outputs, facts = run_hub_module(module, inputs)
    else:
        outputs, facts = run_signatures(module, inputs)
    np.savez(module["outputs"], **outputs)
    return facts


def sampled(tensors, inputs):
    """Returns samples and the mean of each endpoint, as tensors of a few numbers."""
    results = {}
    for name, positions in inputs.items():
        if name.startswith("indices:"):
            key = name[len("indices:") :]
            flat = tf.reshape(tensors[key], [-1])
            results["endpoint:" + key] = tf.gather(flat, positions)
            results["endpoint_mean:" + key] = tf.reduce_mean(tf.cast(flat, tf.float64))
    return results


def run_hub_module(module, inputs):
    outputs, facts = {}, {}
    with tf.Graph().as_default(), tf.Session() as session:
        placeholder = tf.placeholder(tf.float32, [None, None, None, 3])
        spec = hub.load_module_spec(module["path"])
        signatures = [name for name in SIGNATURES if name in spec.get_signature_names()]
        [expected] = {tuple(spec.get_input_info_dict(name)["images"].get_shape().as_list()) for name in signatures}
        shaped = tf.ensure_shape(placeholder, expected)
        instance = hub.Module(spec)
        by_signature = {name: instance(shaped, signature=name, as_dict=True) for name in signatures}
        last = by_signature[signatures[-1]]
        facts["keys"] = sorted(last)
        defaults = {name: found["default"] for name, found in by_signature.items()}
        session.run(tf.global_variables_initializer())
        outputs.update(session.run(dict(defaults, **sampled(last, inputs)), {placeholder: inputs["images"]}))
        if "other_images" in inputs:
            found = session.run(defaults, {placeholder: inputs["other_images"]})
            outputs.update({"other:" + name: value for name, value in found.items()})
    for momentum in module["momenta"]:
        with tf.Graph().as_default(), tf.Session() as session:
            arguments = {"images": tf.constant(inputs["training_images"])}
            signature = signatures[-1]
            if momentum is not None:
                arguments["batch_norm_momentum"] = momentum
                signature += "_with_bn_hparams"
            instance = hub.Module(spec, trainable=True, tags={"train"})
            trained = instance(arguments, signature=signature, as_dict=True)["default"]
            updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
            losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
            trainable = tf.trainable_variables()
            kept = {n: v for n, v in instance.variable_map.items() if all(v is not one for one in trainable)}
            facts["update_ops"] = len(updates)
            session.run(tf.global_variables_initializer())
            outputs["train:" + signatures[-1]], outputs["losses"] = session.run([trained, losses])
            session.run(updates)
            for name, value in session.run(kept).items():
                outputs["{}:{}".format(momentum, name)] = value
    return outputs, facts


def run_signatures(module, inputs):
    """Uses a TF1 Hub module without hub.Module, which cannot train it."""
    loaded = hub.load(module["path"])
    signatures = [name for name in SIGNATURES if name in loaded.signatures]
    keys = []

    @tensorflow.function
    def apply(images, with_endpoints):
        by_signature = {name: loaded.signatures[name](images=images) for name in signatures}
        last = by_signature[signatures[-1]]
        keys[:] = sorted(last)
        defaults = {name: found["default"] for name, found in by_signature.items()}
        return dict(sampled(last, inputs) if with_endpoints else {}, **defaults)

    return applied(apply, inputs), {"keys": keys}


def run_saved_model(module, inputs):
    loaded = hub.load(module["path"])
    keys = []

    @tensorflow.function
    def apply(images, with_endpoints):
        found = loaded(images, return_endpoints=True)
        keys[:] = sorted(found)
        return dict(sampled(found, inputs) if with_endpoints else {}, **{CALL: found["default"]})

    outputs = applied(apply, inputs)
    kept = {v.name.split(":")[0]: v for v in loaded.variables if not v.trainable}
    before = {name: variable.numpy() for name, variable in kept.items()}
    for momentum in module["momenta"]:
        batch = tensorflow.constant(inputs["training_images"])
        more = {} if momentum is None else {"batch_norm_momentum": momentum}
        outputs["train:" + CALL] = loaded(batch, training=True, **more).numpy()
        outputs["losses"] = np.array([loss().numpy() for loss in loaded.regularization_losses])
        for name, variable in kept.items():
            outputs["{}:{}".format(momentum, name)] = variable.numpy()
            variable.assign(before[name])
    return outputs, {"keys": keys}


def applied(apply, inputs):
    found = {key: value.numpy() for key, value in apply(tensorflow.constant(inputs["images"]), True).items()}
    if "other_images" in inputs:
        others = apply(tensorflow.constant(inputs["other_images"]), False)
        found.update({"other:" + name: value.numpy() for name, value in others.items()})
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
