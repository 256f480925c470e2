"""Uses Reusable SavedModels as a program of its TensorFlow's time would, and records facts and predictions.

    python consume_tf2.py TASK.json: {"modules": [{
    "path",
    "inputs": npz with `images` and `photographs`, float32 [batch, height, width, 3], `labels`, int64, and a batch of
        images for each update, `training_0` and so on; for a module that takes any size, `other_images` of another one,
    "outputs": where to write the predictions, and the moving averages after each update, npz,
    "weight_decay": the factors of the variables with weight decay, by name,
    "statistics": the names of the moving averages,
    "certain_statistics": of those that training updates by the images alone, and nothing at random,
    "updates": [{"batch", "momentum": None for the default}, ...], the updates of the moving averages to try,
    "dropout_runs": how many runs in training mode show what is random,
    "gradient_runs": in one of how many runs in training mode each variable has a gradient,
    "scratch": a folder for temporary files,
    "fine_tune": whether to also try Keras, replicas and persistent tapes, which takes most of the time,
    "persistent": the values of `training` under a persistent tape, half a minute each or more}, ...]}
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
DROPOUT_IMAGES = 2
MOMENTUM = 0.6
# Enough for the loss to fall whatever paths are dropped by chance.
EPOCHS = 12
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
    with np.load(module["inputs"]) as arrays:
        inputs = dict(arrays)
    images, photographs, labels = inputs["images"], inputs["photographs"], inputs["labels"]
    facts = {"apis": ["hub.load"] + ["hub.KerasLayer"] * module["fine_tune"]}
    obj = hub.load(module["path"])
    record_interface(obj, module["weight_decay"], facts)
    results = record_inference(obj, images, inputs.get("other_images"), facts)
    results.update(record_updates(obj, module, inputs, facts))
    np.savez(module["outputs"], **results)
    record_dropout(obj, images[:DROPOUT_IMAGES], module["dropout_runs"], facts)
    if not module["fine_tune"]:
        record_gradients(obj, module, images[:4], [], facts)
    else:
        # A persistent tape is hardest on an object that was never called outside a tape.
        record_gradients(hub.load(module["path"]), module, images[:4], module["persistent"], facts)
        record_keras_fine_tuning(module, photographs, labels, facts)
        record_replicas(module, images, facts)
    return facts


def record_interface(obj, weight_decay, facts):
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
        weight_decay.get(plain(v.name), 0) / 2 * float(np.sum(np.square(v.numpy().astype(np.float64))))
        for v in obj.variables
    )
    facts["is_keras"] = isinstance(obj, keras.layers.Layer)


def record_inference(obj, images, other_images, facts):
    """Returns the predictions of every way to call the module; records their differences, and changed variables."""
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
    if other_images is not None:
        predictions["other_size:default"] = obj(other_images).numpy()
    in_function = tf.function(lambda x: obj(x))(images)
    facts["error_in_function"] = float(np.abs(in_function - predictions["default"]).max())
    facts["changed_by_inference"] = changed(before, values(obj))
    return predictions


def traced_outputs(obj, images):
    """Returns the symbolic outputs that a caller's tf.function gets while it is traced with an unknown batch size."""
    outputs = {}

    @tf.function(input_signature=[tf.TensorSpec([None] + list(images.shape[1:]), tf.float32)])
    def trace(x):
        outputs.update(obj(x, return_endpoints=True))
        return obj(x)

    trace.get_concrete_function()
    return outputs


def record_updates(obj, module, inputs, facts):
    """Returns the moving averages before and after each update in training mode; records what else changes.

    Afterwards the module has its first values again.
    """
    first = before = values(obj)
    averages = {"after_0_updates:%s" % name: before[name] for name in module["statistics"]}
    facts["changed_by_updates"] = []
    for number, update in enumerate(module["updates"]):
        momentum = {} if update["momentum"] is None else {"batch_norm_momentum": update["momentum"]}
        obj(inputs["training_%d" % update["batch"]], training=True, **momentum)
        after = values(obj)
        facts["changed_by_updates"].append(changed(before, after))
        averages.update({"after_%d_updates:%s" % (number + 1, name): after[name] for name in module["statistics"]})
        before = after
    restore(obj, first)
    return averages


def record_dropout(obj, images, runs, facts):
    """Records which outputs differ between runs in training mode, from the same start."""
    start = values(obj)
    first = obj(images, training=True, return_endpoints=True)
    random = set()
    for _ in range(runs - 1):
        restore(obj, start)
        outputs = obj(images, training=True, return_endpoints=True)
        random |= {key for key, value in outputs.items() if not np.array_equal(value, first[key])}
    restore(obj, start)
    facts["random_outputs"] = sorted(random)


def record_gradients(obj, module, images, persistent_modes, facts):
    """Records for how many variables a loss with weight decay has a gradient, finite in all runs and nonzero in some.

    A persistent tape, which is slow, computes them twice.
    """
    for training in (False, True):
        key = "in_training" if training else "in_inference"
        largest = []
        for run in range(module["gradient_runs"] if training else 1):
            persistent = training in persistent_modes and run == 0
            with tf.GradientTape(persistent=persistent) as tape:
                loss = tf.reduce_sum(tf.square(obj(images, training=training)))
                loss += tf.add_n([decay() for decay in obj.regularization_losses])
            gradients = tape.gradient(loss, obj.trainable_variables)
            largest.append([np.nan if g is None else np.abs(g).max() for g in gradients])
            if persistent:
                again = tape.gradient(loss, obj.trainable_variables)
                same = [np.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(gradients, again)]
                facts["gradients_repeat_" + key] = all(same)
        facts["gradients_" + key] = int(np.sum(np.isfinite(largest).all(axis=0) & (np.max(largest, axis=0) > 0)))


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
    facts["keras_moved"] = [
        plain(v.name) for v, value in zip(layer.variables, before) if not np.array_equal(v.numpy(), value)
    ]
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
    facts["keras_shapes"] = {key: list(value.shape) for key, value in endpoints.items()}


def record_replicas(module, images, facts):
    """Records that under MirroredStrategy, moving averages are the means of those of the replicas."""
    path, moving = module["path"], module["certain_statistics"]
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        obj = hub.load(path)
    parts = [images[:1], images[1:2]]
    single = hub.load(path)
    before = values(single)

    def train(model, batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(batch, training=True, batch_norm_momentum=MOMENTUM)))
        return tape.gradient(loss, model.trainable_variables[0])

    # By the same graph: without its tape, TensorFlow rounds otherwise, which grows from one batch norm to the next.
    train_alone = tf.function(lambda batch: train(single, batch))
    alone = []
    for part in parts:
        restore(single, before)
        train_alone(tf.constant(part))
        alone.append(values(single))

    @tf.function
    def step(batches):
        return strategy.run(lambda batch: train(obj, batch), args=(batches,))

    batches = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    gradients = strategy.experimental_local_results(step(batches))
    facts["replicas"] = strategy.num_replicas_in_sync
    facts["replica_gradients"] = sum(bool(np.abs(g.numpy()).max() > 0) for g in gradients)
    together = values(obj)
    facts["error_of_replicas_mean"] = max(
        [0.0]
        + [
            float(np.abs(together[n] - (alone[0][n] + alone[1][n]) / 2).max() / np.abs(alone[0][n]).max())
            for n in moving
        ]
    )
    facts["replicas_differ"] = any(not np.allclose(alone[0][n], alone[1][n]) for n in moving)


def values(obj):
    return {plain(v.name): v.numpy() if hasattr(v, "numpy") else tf.identity(v).numpy() for v in obj.variables}


def plain(name):
    """Returns the name of a variable without the number of its output."""
    return name.split(":")[0]


def restore(obj, before):
    for variable in obj.variables:
        variable.assign(before[plain(variable.name)])


def changed(before, after):
    return [name for name in before if not np.array_equal(before[name], after[name])]


if __name__ == "__main__":
    main(*sys.argv[1:])
