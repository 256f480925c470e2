"""Describes the inputs and outputs of a graph version: its signatures, and the `__call__` of a TF2 SavedModel."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import itertools

from hubexport.checkpoints.dtypes import tensorflow_dtype
from hubexport.errors import printable
from hubexport.protos import Message
from hubexport.readable_numbers import natural_key

# The key of a module's main output, in the signatures of TF1 Hub modules and in the result of `__call__`.
DEFAULT = "default"
# Our name for the output of a `__call__` that returns a tensor, not a dictionary.
ONLY_OUTPUT = "output"
# Signatures of TensorFlow's own, which callers do not see, begin with this.
_INTERNAL_SIGNATURES = "__saved_model_"
# The kinds of StructuredValue that are shown as Python writes them.
_PYTHON_KINDS = ("bool_value", "float64_value", "int64_value", "string_value")
# In a nested structure, each part's name repeats that of the whole. Unbounded, a long name with many parts would take
# far more memory than its file.
_MAX_NAME_LENGTH = 1000


@dataclasses.dataclass(frozen=True)
class TensorReport:
    """An input or an output.

    Attributes:
        name: the name by which callers refer to it.
        dtype: the dtype's name, like `float32`.
        shape: its dimensions, None for each unknown one; None for a shape of unknown rank.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class SignatureReport:
    """A signature. Its inputs and outputs are sorted by name, `layer_2` before `layer_10`."""

    name: str
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]


@dataclasses.dataclass(frozen=True)
class CallReport:
    """The `__call__` of a TF2 SavedModel.

    Attributes:
        arguments: the arguments as Python writes them, like `images` and `training=False`.
        inputs: the tensors among the arguments of its first function.
        outputs: the tensors that this function returns. A single tensor is called `output`.
    """

    arguments: tuple[str, ...]
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]


@dataclasses.dataclass(frozen=True)
class GraphVersionReport:
    """A graph version, which is one MetaGraph of the SavedModel.

    Attributes:
        tags: the tags by which it is found. In a TF1 Hub module, the graph version for inference has none.
        signatures: its signatures, sorted by name.
        call: the `__call__` of its root object; None without one.
        endpoints: the intermediate results that its signatures or its `__call__` return beside `default`, each once.
        oldest_tensorflow: the oldest TensorFlow that can load it alone, like `1.15`, see
            `hubexport.modules.op_versions`; None if none can.
    """

    tags: tuple[str, ...]
    signatures: tuple[SignatureReport, ...]
    call: CallReport | None
    endpoints: tuple[TensorReport, ...]
    oldest_tensorflow: str | None


def describe_graph_version(meta_graph: Message, oldest_tensorflow: str | None) -> GraphVersionReport:
    """Describes a MetaGraph. Leaves out what it does not understand."""
    signatures = tuple(
        SignatureReport(printable(name), _tensors(signature.inputs), _tensors(signature.outputs))
        for name, signature in sorted(meta_graph.signature_def.items())
        if not name.startswith(_INTERNAL_SIGNATURES)
    )
    objects = meta_graph.object_graph_def
    call = _call_object(objects)
    names = dict.fromkeys(call.concrete_functions) if call else ()
    functions = [objects.concrete_functions[name] for name in names if name in objects.concrete_functions]
    results: Iterable[Iterable[TensorReport]]
    if objects.nodes:
        results = [_flattened(function.output_signature, "") for function in functions if _is_dict(function)]
    else:
        # A signature without `default` is not a Hub module's, and has no intermediate results.
        results = [one.outputs for one in signatures if any(output.name == DEFAULT for output in one.outputs)]
    return GraphVersionReport(
        tags=tuple(map(printable, meta_graph.meta_info_def.tags)),
        signatures=signatures,
        call=_describe_call(call, functions[0]) if call and functions else None,
        endpoints=_sorted({tensor.name: tensor for tensor in itertools.chain(*results) if tensor.name != DEFAULT}),
        oldest_tensorflow=oldest_tensorflow,
    )


def dtype_name(number: int) -> str:
    """Returns the name of a dtype by its number in protos."""
    # TF1's variables have reference dtypes, whose numbers are higher by 100.
    return tensorflow_dtype(number % 100)


def _tensors(infos: Mapping[str, Message]) -> tuple[TensorReport, ...]:
    return _sorted({name: _tensor(name, info.dtype, info.tensor_shape) for name, info in infos.items()})


def _tensor(name: str, dtype: int, shape: Message) -> TensorReport:
    lengths = tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
    return TensorReport(printable(name), dtype_name(dtype), None if shape.unknown_rank else lengths)


def _sorted(tensors: Mapping[str, TensorReport]) -> tuple[TensorReport, ...]:
    return tuple(sorted(tensors.values(), key=lambda tensor: natural_key(tensor.name)))


def _call_object(objects: Message) -> Message | None:
    """Returns the SavedFunction of the root's `__call__`."""
    for child in objects.nodes[0].children if objects.nodes else []:
        if child.local_name == "__call__" and 0 <= child.node_id < len(objects.nodes):
            return objects.nodes[child.node_id].function
    return None


def _is_dict(function: Message) -> bool:
    return bool(function.output_signature.HasField("dict_value"))


def _describe_call(call: Message, first: Message) -> CallReport:
    return CallReport(
        arguments=tuple(_arguments(call.function_spec)),
        inputs=tuple(_flattened(first.canonicalized_input_signature, "", named=True)),
        outputs=tuple(_flattened(first.output_signature, "" if _is_dict(first) else ONLY_OUTPUT)),
    )


def _arguments(spec: Message) -> Iterator[str]:
    """Yields the arguments of an `inspect.FullArgSpec`, except keyword-only ones."""
    fields = {pair.key: pair.value for pair in spec.fullargspec.named_tuple_value.values}
    names = [value.string_value for value in fields["args"].list_value.values] if "args" in fields else []
    defaults = list(fields["defaults"].tuple_value.values) if "defaults" in fields else []
    first_default = len(names) - len(defaults)
    for number, name in enumerate(names):
        if number == 0 and spec.is_method:  # It is `self`.
            continue
        default = f"={_python_value(defaults[number - first_default])}" if number >= first_default else ""
        yield printable(name) + default


def _python_value(value: Message) -> str:
    kind = value.WhichOneof("kind")
    if kind == "none_value":
        return "None"
    return repr(getattr(value, kind)) if kind in _PYTHON_KINDS else "..."


def _flattened(structure: Message, name: str, *, named: bool = False) -> Iterator[TensorReport]:
    """Yields the tensors of a nested structure.

    Args:
        structure: a StructuredValue.
        name: the name of the whole structure. Parts append `/` and their own name or position.
        named: whether tensors that have a name of their own keep it.
    """
    kind = structure.WhichOneof("kind")
    match kind:
        case "tensor_spec_value":
            spec = structure.tensor_spec_value
            yield _tensor(spec.name if named and spec.name else name, spec.dtype, spec.shape)
            return
        case "dict_value":
            fields = structure.dict_value.fields
            parts = [(key, fields[key]) for key in sorted(fields, key=natural_key)]
        case "list_value" | "tuple_value":
            parts = [(str(number), value) for number, value in enumerate(getattr(structure, kind).values)]
        case "named_tuple_value":
            parts = [(pair.key, pair.value) for pair in structure.named_tuple_value.values]
        case _:
            return
    for key, value in parts:
        yield from _flattened(value, f"{name}/{key}"[:_MAX_NAME_LENGTH] if name else key, named=named)
