"""Writes Reusable SavedModels, module versions 4 and 5, which `hub.load` and `hub.KerasLayer` load in TensorFlow 2.

    saved_model.pb          one MetaGraph, tagged `serve`: objects, the functions that they call, a graph for serving
    variables/variables.*   the values, and the paths from the root object to them

Like the TF1 format it is written as protos from the layer list, not traced by TensorFlow, so its bytes do not depend on
the installed TensorFlow. TensorFlow from 2.4 on loads it, because it keeps these rules:

- The producer is TensorFlow 2.4's, and `min_consumer` is that of TensorFlow's own SavedModels.
- No `DisableCopyOnRead` ops, which today's TensorFlow adds on saving. TensorFlow 2.4 does not know them.
- `__call__` has one flat function for each combination of its flags. If these shared an inner function that returns all
  endpoints, its gradient would compute with zeros for the endpoints that nobody uses.
"""

from collections.abc import Mapping, Sequence
import itertools
from pathlib import Path

from hubexport.arrays import Value
from hubexport.checkpoints.v2_bundle import write_bundle
from hubexport.formats.nodes import FLOAT, STRING, FunctionWriter, GraphWriter, shape_attr, tensor_info, types
from hubexport.formats.op_nodes import (
    MOMENTUM_FROM_VERSION_3,
    TF2,
    scaled_images,
    write_l2_loss,
    write_network,
)
from hubexport.formats.saved_objects import ObjectGraphWriter, TensorSpec, argument_name
from hubexport.layouts.tf2 import OBJECT_GRAPH_KEY, checkpoint_key
from hubexport.networks.network import Network
from hubexport.networks.ops import Variable
from hubexport.protos import (
    DT_FLOAT,
    DT_RESOURCE,
    SAVED_MODEL_SCHEMA_VERSION,
    AttrValue,
    Message,
    SavedModel,
    SignatureDef,
)
from hubexport.variants import TF2_VERSIONS, Kind, ModuleSpec

# tensorflow/core/protobuf/saver.proto
_SAVER_V2 = 2
# TF_GRAPH_DEF_VERSION of TensorFlow 2.4, and the oldest consumer of the SavedModels that it writes.
_PRODUCER = 561
_MIN_CONSUMER = 12

_SERVING = "serving_default"
# What tfhub.dev's modules call the output of `serving_default`.
_OUTPUT_NAMES = {"classification": "logits", "feature_vector": "feature_vector"}


def write_tf2_module(directory: Path, spec: ModuleSpec, network: Network, values: Mapping[str, Value]) -> None:
    """Writes the files of a Reusable SavedModel into a new or empty directory.

    Args:
        directory: an existing directory.
        spec: the module's kind and version (4 or 5).
        network: the network, with a classifier if and only if the kind is `classification`.
        values: float32, by variable name, for all variables of the network; others are ignored.
    Raises:
        OSError: a file cannot be written.
    """
    module = _Module(spec, network)
    (directory / "saved_model.pb").write_bytes(module.saved_model_bytes())
    (directory / "variables").mkdir()
    module.write_checkpoint(directory / "variables" / "variables", values)


def write_tf2_checkpoint(prefix: Path, network: Network, values: Mapping[str, Value]) -> None:
    """Writes values as a checkpoint that `tf.train.Checkpoint` restores into a loaded TF2 module.

    Args:
        prefix: the path that the names of the files begin with; the files must not exist.
        network: the network, with a classifier if the module has one.
        values: float32, by variable name, for all variables of the network; others are ignored.
    Raises:
        OSError: a file cannot be written.
    """
    kind: Kind = "classification" if network.logits else "feature_vector"
    _Module(ModuleSpec(kind=kind, version=TF2_VERSIONS[-1]), network).write_checkpoint(prefix, values)


def saved_model_bytes(spec: ModuleSpec, network: Network) -> bytes:
    """Returns the content of `saved_model.pb`: the same bytes for the same arguments."""
    return _Module(spec, network).saved_model_bytes()


class _Module:
    """A module's objects, and the functions that they call.

    Attributes:
        objects: the objects, from which `hub.load` makes its Python object.
    """

    def __init__(self, spec: ModuleSpec, network: Network) -> None:
        self._spec = spec
        self._network = network
        self._functions: list[Message] = []
        self.objects = ObjectGraphWriter()
        self._ids = {variable.name: self.objects.variable(variable) for variable in network.variables}
        self._image_shape = (None, *network.image_shape)
        self._default_layer = network.logits or network.features

        trainable = [self._ids[variable.name] for variable in network.variables if variable.trainable]
        losses = [self._write_loss(variable) for variable in network.variables if variable.weight_decay]
        self.objects.attach("variables", self.objects.list_of([*self._ids.values()]))
        self.objects.attach("trainable_variables", self.objects.list_of(trainable))
        self.objects.attach("regularization_losses", self.objects.list_of(losses))
        self.objects.attach("__call__", self._write_call())
        signatures = {_SERVING: self._write_serving()} if spec.version >= 5 else {}
        self.objects.attach("signatures", self.objects.signatures(signatures))

    def write_checkpoint(self, prefix: Path, values: Mapping[str, Value]) -> None:
        """Writes the variables' values, and the object graph that leads to them."""
        written: dict[str, Value | bytes] = {checkpoint_key(v): values[v.name] for v in self._network.variables}
        written[OBJECT_GRAPH_KEY] = self.objects.checkpoint_graph().SerializeToString(deterministic=True)
        write_bundle(prefix, written)

    def _write_call(self) -> int:
        """Writes `__call__(inputs, training=False, return_endpoints=False, batch_norm_momentum=0.99)`."""
        flags = itertools.product((False, True), repeat=2)
        names = [self._write_forward(training, return_endpoints) for training, return_endpoints in flags]
        defaults = {
            "inputs": ...,
            "training": False,
            "return_endpoints": False,
            "batch_norm_momentum": MOMENTUM_FROM_VERSION_3,
        }
        return self.objects.function(names, defaults)

    def _write_forward(self, training: bool, return_endpoints: bool) -> str:
        images = TensorSpec(self._image_shape, "inputs")
        # A tensor: a function written for one Python value would accept no other.
        momentum = TensorSpec((), "batch_norm_momentum")
        name = _forward_name(training, return_endpoints)
        graph = FunctionWriter(name, {spec.name: spec.shape for spec in (images, momentum)}, [*self._ids])
        scaled = scaled_images(graph, images.name, "hub_input", self._network)
        written = write_network(
            graph, self._network, scaled, graph.handles, momentum.name, dialect=TF2, training=training
        )
        layers = {"default": self._default_layer}
        if return_endpoints:
            layers |= self._network.endpoints
        # TensorFlow flattens a dictionary in the order of its sorted keys.
        specs = {key: TensorSpec(self._output_shape(layers[key]), argument_name(key)) for key in sorted(layers)}
        results = {spec.name: written.outputs[layers[key]] for key, spec in specs.items()}
        self._functions.append(graph.definition(results, written.update_ops))
        arguments = (images, training, return_endpoints, momentum)
        result = specs if return_endpoints else specs["default"]
        self.objects.concrete_function(name, arguments, result, [*self._ids.values()])
        return name

    def _output_shape(self, layer: str) -> tuple[int | None, ...]:
        return (None, *self._network.shapes[layer])

    def _write_loss(self, variable: Variable) -> int:
        """Writes one of `regularization_losses`, a function without arguments."""
        name = argument_name(f"{variable.name}/regularization_loss")
        graph = FunctionWriter(name, {}, [variable.name])
        value = graph.read_variable(variable.name, variable.shape, graph.handles[variable.name])
        loss = write_l2_loss(graph, variable, value)
        self._functions.append(graph.definition({"loss": loss}))
        self.objects.concrete_function(name, (), TensorSpec((), "loss"), [self._ids[variable.name]])
        return self.objects.function([name], {})

    def _write_serving(self) -> int:
        """Writes `signatures["serving_default"]`, which calls the inference function of `__call__`."""
        images = TensorSpec(self._image_shape, "images")
        output = TensorSpec(self._output_shape(self._default_layer), _OUTPUT_NAMES[self._spec.kind])
        graph = FunctionWriter(_SERVING, {images.name: images.shape}, [*self._ids])
        momentum = graph.constant("batch_norm_momentum", MOMENTUM_FROM_VERSION_3)
        called = _forward_name(training=False, return_endpoints=False)
        result = _call(graph, "inference", called, (images.name, momentum), [*graph.handles.values()])
        self._functions.append(graph.definition({output.name: result}))
        return self.objects.signature(_SERVING, (images,), {output.name: output}, [*self._ids.values()])

    def saved_model_bytes(self) -> bytes:
        """Returns the serialized SavedModel."""
        saved_model = SavedModel(saved_model_schema_version=SAVED_MODEL_SCHEMA_VERSION)
        meta_graph = saved_model.meta_graphs.add(object_graph_def=self.objects.objects)
        meta_graph.meta_info_def.tags.append("serve")
        meta_graph.meta_info_def.stripped_default_attrs = True
        self._write_serving_graph(meta_graph)
        meta_graph.graph_def.library.function.extend(self._functions)
        meta_graph.graph_def.versions.producer = _PRODUCER
        meta_graph.graph_def.versions.min_consumer = _MIN_CONSUMER
        return saved_model.SerializeToString(deterministic=True)

    def _write_serving_graph(self, meta_graph: Message) -> None:
        """Writes the graph for programs that load into a session, such as TensorFlow Serving, and ignore objects."""
        graph = GraphWriter()
        handles = [graph.variable_handle(variable.name, variable.shape) for variable in self._network.variables]
        _write_saver(graph, self._network.variables, handles, meta_graph.saver_def)
        if self._spec.version >= 5:
            shape = shape_attr(self._image_shape)
            images = graph.node("Placeholder", f"{_SERVING}_images", dtype=FLOAT, shape=shape)
            result = _call(graph, "StatefulPartitionedCall", _SERVING, (images,), handles)
            output_shape = self._output_shape(self._default_layer)
            signature = SignatureDef(
                inputs={"images": tensor_info(images, self._image_shape)},
                outputs={_OUTPUT_NAMES[self._spec.kind]: tensor_info(result, output_shape)},
                method_name="tensorflow/serving/predict",
            )
            meta_graph.signature_def[_SERVING].CopyFrom(signature)
        meta_graph.graph_def.node.extend(graph.nodes)


def _forward_name(training: bool, return_endpoints: bool) -> str:
    return f"call_{'training' if training else 'inference'}{'_with_endpoints' if return_endpoints else ''}"


def _call(graph: GraphWriter, name: str, function: str, tensors: Sequence[str], handles: Sequence[str]) -> str:
    """Writes the call of a function with one result, and returns the result's tensor."""
    return graph.node(
        "StatefulPartitionedCall",
        name,
        *tensors,
        *handles,
        Tin=types(*[DT_FLOAT] * len(tensors), *[DT_RESOURCE] * len(handles)),
        Tout=types(DT_FLOAT),
        f=AttrValue(func={"name": function}),
    )


def _write_saver(graph: GraphWriter, variables: Sequence[Variable], handles: Sequence[str], saver: Message) -> None:
    """Writes the nodes that save and restore the variables of a session, and fills in the SaverDef that names them."""
    filename = graph.node("Placeholder", "saver/filename", dtype=STRING, shape=shape_attr(()))
    keys = graph.text_constant("saver/keys", [checkpoint_key(variable) for variable in variables])
    slices = graph.text_constant("saver/slices", [""] * len(variables))
    dtypes = types(*[DT_FLOAT] * len(variables))

    values = [graph.read_variable(v.name, v.shape, handle) for v, handle in zip(variables, handles, strict=True)]
    graph.node("SaveV2", "saver/SaveV2", filename, keys, slices, *values, dtypes=dtypes)
    saver.save_tensor_name = graph.node("Identity", "saver/saved", filename, "^saver/SaveV2", T=STRING)

    graph.node("RestoreV2", "saver/RestoreV2", filename, keys, slices, dtypes=dtypes)
    assigned = []
    for index, (variable, handle) in enumerate(zip(variables, handles, strict=True)):
        restored = graph.output("RestoreV2", "saver/RestoreV2", index)
        assigned.append(f"{variable.name}/Assign")
        graph.node("AssignVariableOp", assigned[-1], handle, restored, dtype=FLOAT)
    graph.node("NoOp", "saver/restored", *(f"^{node}" for node in assigned))

    saver.filename_tensor_name = filename
    saver.restore_op_name = "saver/restored"
    saver.version = _SAVER_V2
