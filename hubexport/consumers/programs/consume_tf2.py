"""Uses Reusable SavedModels as a program of its TensorFlow's time would, and records facts and predictions.

    python consume_tf2.py TASK.json ANSWER.json

It needs only a TensorFlow from 2.4 on, a tensorflow_hub of the same time and Keras 2 (`tf_keras` where TensorFlow's own
Keras is Keras 3), so it is written for Python 3.8. It makes no judgements: `hubexport.consumers.judge_tf2` compares the
facts with the module's contract.

TASK.json: {"modules": [{
    "path",
    "inputs": npz with `images` and `photographs`, float32 [batch, height, width, 3], and `labels`, int64,
    "outputs": where to write the predictions, npz,
    "scratch": a folder for temporary files,
    "fine_tune": whether to also try Keras, replicas and persistent tapes, which takes most of the time,
    "persistent": the values of `training` under a persistent tape, half a minute each; default [false, true]}, ...]}
ANSWER.json: {"tensorflow", "tensorflow_hub", "keras", "modules": [the facts of each module]}
"""

import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

tf.get_logger().setLevel("ERROR")
# Must come before anything else touches the devices. MirroredStrategy gets both.
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

import tensorflow_hub as hub  # noqa: E402

try:
    import tf_keras as keras  # noqa: E402
except ImportError:
    keras = tf.keras

# Endpoints take hundreds of megabytes per module; two images show as much as nine.
ENDPOINT_IMAGES = 2
MOMENTUM = 0.6
EPOCHS = 6
LEARNING_RATE = 0.003


def main(task_file, answer_file):
    with open(task_file) as f:
        task = json.load(f)
    answer = {
        "tensorflow": tf.__version__,
        "tensorflow_hub": hub.__version__,
        "keras": keras.__name__,
        "modules": [use(module) for module in task["modules"]],
    }
    with open(answer_file, "w") as f:
        json.dump(answer, f)


def use(module):
    with np.load(module["inputs"]) as inputs:
        images, photographs, labels = inputs["images"], inputs["photographs"], inputs["labels"]
    facts = {"apis": ["hub.load"] + ["hub.KerasLayer"] * module["fine_tune"]}
    obj = hub.load(module["path"])
    record_interface(obj, facts)
    record_inference(obj, images, module["outputs"], facts)
    record_training_mode(obj, images[:4], facts)
    if not module["fine_tune"]:
        record_gradients(obj, images[:4], [], facts)
    else:
        # A persistent tape is hardest on an object that was never called outside a tape.
        record_gradients(hub.load(module["path"]), images[:4], module.get("persistent", [False, True]), facts)
        record_keras_fine_tuning(module, photographs, labels, facts)
        record_replicas(module["path"], images[:4], facts)
    return facts


def record_interface(obj, facts):
    facts["variables"] = [v.name for v in obj.variables]
    facts["trainable_variables"] = [v.name for v in obj.trainable_variables]
    facts["says_trainable"] = [v.name for v in obj.variables if v.trainable]
    facts["signatures"] = {
        name: {
            "inputs": {k: v.shape.as_list() for k, v in function.structured_input_signature[1].items()},
            "outputs": {k: v.shape.as_list() for k, v in function.structured_outputs.items()},
        }
        for name, function in obj.signatures.items()
    }
    losses = [loss() for loss in obj.regularization_losses]
    facts["regularization_losses"] = len(losses)
    facts["regularization_loss"] = float(np.sum([loss.numpy() for loss in losses], dtype=np.float64))
    facts["regularization_loss_by_hand"] = sum(
        4e-5 / 2 * float(np.sum(np.square(v.numpy().astype(np.float64))))
        for v in obj.variables
        if v.name.endswith("/weights:0")
    )
    facts["is_keras"] = isinstance(obj, keras.layers.Layer)


def record_inference(obj, images, outputs, facts):
    """Writes the predictions of every way to call the module; records their differences, and changed variables."""
    before = values(obj)
    predictions = {"default": obj(images).numpy()}
    positional = obj(tf.constant(images), False, False, 0.5)
    facts["arguments_by_position"] = bool(np.array_equal(positional, predictions["default"]))
    endpoints = obj(images[:ENDPOINT_IMAGES], return_endpoints=True)
    predictions.update({"endpoint:%s" % key: value.numpy() for key, value in endpoints.items()})
    facts["static_shapes"] = {key: value.shape.as_list() for key, value in traced_outputs(obj, images).items()}
    for name, function in obj.signatures.items():
        for key, value in function(images=tf.constant(images)).items():
            predictions["%s:%s" % (name, key)] = value.numpy()
    in_function = tf.function(lambda x: obj(x))(images)
    facts["error_in_function"] = float(np.abs(in_function - predictions["default"]).max())
    facts["changed_by_inference"] = changed(before, values(obj))
    np.savez(outputs, **predictions)


def traced_outputs(obj, images):
    """Returns the symbolic outputs that a caller's tf.function gets while it is traced with an unknown batch size."""
    outputs = {}

    @tf.function(input_signature=[tf.TensorSpec([None] + list(images.shape[1:]), tf.float32)])
    def trace(x):
        outputs.update(obj(x, return_endpoints=True))
        return obj(x)

    trace.get_concrete_function()
    return outputs


def record_training_mode(obj, images, facts):
    """Records what training mode does to the moving averages, and where it drops out."""
    before = values(obj)
    first = obj(images, training=True, return_endpoints=True, batch_norm_momentum=MOMENTUM)
    after = values(obj)
    facts["changed_by_training"] = changed(before, after)
    facts["errors_of_moving_averages"] = errors_of_updates(first, images, before, after)
    second = obj(images, training=True, return_endpoints=True, batch_norm_momentum=MOMENTUM)
    facts["features_repeat"] = bool(np.array_equal(first["MobilenetV2/global_pool"], second["MobilenetV2/global_pool"]))
    facts["default_repeats"] = bool(np.array_equal(first["default"], second["default"]))
    # The default momentum, computed from one step with it from the same start.
    restore(obj, before)
    obj(images, training=True)
    defaulted = values(obj)
    restore(obj, before)
    ratios = [
        np.median((defaulted[name] - before[name]) / (after[name] - before[name]))
        for name in before
        if name.endswith("Conv/BatchNorm/moving_mean:0")
    ]
    facts["default_momentum"] = float(1 - ratios[0] * (1 - MOMENTUM))


def errors_of_updates(endpoints, images, before, after):
    """Returns the relative errors of `moving += (1 - momentum) * (batch statistic - moving)`, in float64, by variable.

    The input of each batch norm is recomputed from the previous layer, which is an endpoint.
    """
    errors = {}
    for scope, inputs in batch_norm_inputs(endpoints, images).items():
        if "depthwise" in scope:
            stride = 2 if scope.split("/")[1] in STRIDED else 1
            kernel = before["%s/depthwise_weights:0" % scope]
            batch = tf.nn.depthwise_conv2d(inputs, kernel, [1, stride, stride, 1], "SAME")
        else:
            stride = 2 if scope == "MobilenetV2/Conv" else 1
            batch = tf.nn.conv2d(inputs, before["%s/weights:0" % scope], stride, "SAME")
        pixels = batch.numpy().astype(np.float64).reshape(-1, batch.shape[-1])
        statistics = {"moving_mean": pixels.mean(0), "moving_variance": pixels.var(0, ddof=1)}
        for name, statistic in statistics.items():
            variable = "%s/BatchNorm/%s:0" % (scope, name)
            step = (1 - MOMENTUM) * (statistic - before[variable])
            error = np.abs(after[variable] - before[variable] - step).max() / np.abs(step).max()
            errors[variable] = float(error)
    return errors


# The blocks that halve the image: table 2 of the paper, Sandler et al. 2018.
STRIDED = ("expanded_conv_1", "expanded_conv_3", "expanded_conv_6", "expanded_conv_13")


def batch_norm_inputs(endpoints, images):
    """Returns the input of each convolution with batch norm, by scope."""
    inputs = {"MobilenetV2/Conv": images * 2 - 1}
    previous = endpoints["MobilenetV2/layer_1"]
    for number in range(2, 19):
        scope = "MobilenetV2/expanded_conv" + ("_%d" % (number - 2) if number > 2 else "")
        layer = "MobilenetV2/layer_%d" % number
        if number > 2:
            inputs[scope + "/expand"] = previous
        inputs[scope + "/depthwise"] = endpoints.get(layer + "/expansion_output", previous)
        inputs[scope + "/project"] = endpoints[layer + "/depthwise_output"]
        previous = endpoints[layer]
    inputs["MobilenetV2/Conv_1"] = previous
    return inputs


def record_gradients(obj, images, persistent_modes, facts):
    """Records the gradients of a loss with weight decay; a persistent tape, which is slow, computes them twice."""
    for training in (False, True):
        persistent = training in persistent_modes
        with tf.GradientTape(persistent=persistent) as tape:
            loss = tf.reduce_sum(tf.square(obj(images, training=training)))
            loss += tf.add_n([decay() for decay in obj.regularization_losses])
        gradients = tape.gradient(loss, obj.trainable_variables)
        key = "in_training" if training else "in_inference"
        facts["gradients_" + key] = sum(
            g is not None and bool(np.isfinite(g).all() and np.abs(g).max() > 0) for g in gradients
        )
        if persistent:
            again = tape.gradient(loss, obj.trainable_variables)
            same = [np.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(gradients, again)]
            facts["gradients_repeat_" + key] = all(same)


def record_keras_fine_tuning(module, photographs, labels, facts):
    """Fits a Keras Sequential to the photographs, saves it, and loads it again.

    Adam's steps do not shrink with the gradients, which are a hundred times smaller in trained networks than in random
    ones.
    """
    keras.utils.set_random_seed(1) if hasattr(keras.utils, "set_random_seed") else tf.random.set_seed(1)
    layer = hub.KerasLayer(module["path"], trainable=True, arguments={"batch_norm_momentum": 0.997})
    model = keras.Sequential([layer, keras.layers.Dense(len(labels), kernel_initializer="zeros")])
    model.build([None] + list(photographs.shape[1:]))
    before = [v.numpy() for v in layer.variables]
    # The new Adam of Keras 2.11 makes the fit take twice as long, and shows no more.
    optimizers = getattr(keras.optimizers, "legacy", keras.optimizers)
    model.compile(
        optimizer=optimizers.Adam(LEARNING_RATE),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # Unlike the loss, this does not include the weight decay.
        metrics=[keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True)],
    )
    facts["keras_output_shape"] = list(model.output_shape)
    facts["keras_losses"] = len(model.losses)
    history = model.fit(photographs, labels, batch_size=len(labels), epochs=EPOCHS, verbose=0)
    facts["keras_loss_history"] = [float(loss) for loss in history.history["cross_entropy"]]
    facts["keras_moved"] = sorted(
        {
            v.name.split(":")[0].rpartition("/")[2]
            for v, value in zip(layer.variables, before)
            if not np.array_equal(v.numpy(), value)
        }
    )
    predicted = model.predict(photographs, verbose=0)
    saved = os.path.join(module["scratch"], "saved")
    model.save(saved)
    reloaded = keras.models.load_model(saved)
    facts["keras_error_of_reload"] = float(np.abs(reloaded.predict(photographs, verbose=0) - predicted).max())
    facts["keras_losses_of_reload"] = len(reloaded.losses)
    frozen = hub.KerasLayer(module["path"])
    facts["keras_frozen_trainable"] = len(frozen.trainable_variables)
    inputs = keras.Input(photographs.shape[1:])
    endpoints = hub.KerasLayer(frozen.resolved_object, arguments={"return_endpoints": True})(inputs)
    facts["keras_endpoint_shape"] = list(endpoints["MobilenetV2/layer_18"].shape)


def record_replicas(path, images, facts):
    """Records that under MirroredStrategy, moving averages are the means of those of the replicas."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        obj = hub.load(path)
    parts = [images[:1], images[1:2]]
    single = hub.load(path)
    before = values(single)
    alone = []
    for part in parts:
        restore(single, before)
        single(part, training=True, batch_norm_momentum=MOMENTUM)
        alone.append(values(single))

    @tf.function
    def step(batches):
        def replica(batch):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.square(obj(batch, training=True, batch_norm_momentum=MOMENTUM)))
            return tape.gradient(loss, obj.trainable_variables[0])

        return strategy.run(replica, args=(batches,))

    batches = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    gradients = strategy.experimental_local_results(step(batches))
    facts["replicas"] = strategy.num_replicas_in_sync
    facts["replica_gradients"] = sum(bool(np.abs(g.numpy()).max() > 0) for g in gradients)
    together = values(obj)
    moving = [name for name in together if "/moving_" in name]
    facts["error_of_replicas_mean"] = max(
        float(np.abs(together[n] - (alone[0][n] + alone[1][n]) / 2).max() / np.abs(alone[0][n]).max()) for n in moving
    )
    facts["replicas_differ"] = any(not np.allclose(alone[0][n], alone[1][n]) for n in moving)


def values(obj):
    return {v.name: v.numpy() if hasattr(v, "numpy") else tf.identity(v).numpy() for v in obj.variables}


def restore(obj, before):
    for variable in obj.variables:
        variable.assign(before[variable.name])


def changed(before, after):
    names = [name for name in before if not np.array_equal(before[name], after[name])]
    return {"count": len(names), "names": sorted({name.rpartition("/")[2] for name in names})}


if __name__ == "__main__":
    main(*sys.argv[1:])
