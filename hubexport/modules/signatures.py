"""What a module takes and gives: the signatures of its graph versions, and the `__call__` of a TF2 SavedModel."""

from collections.abc import Iterable, Iterator, Mapping
import dataclasses
import itertools
import re

from hubexport.checkpoints.dtypes import tensorflow_dtype
from hubexport.errors import printable
from hubexport.protos import Message

# What TensorFlow keeps among the signatures, and no caller sees.
_INTERNAL_SIGNATURES = "__saved_model_"
# The key of a module's main result, in signatures of TF1 Hub modules and in what `__call__` returns.
_DEFAULT = "default"
# Values in a StructuredValue that Python writes as we do.
_PYTHON_KINDS = ("bool_value", "float64_value", "int64_value", "string_value")
# The name that a result gets here if it is a tensor, not a dictionary.
_ONLY_OUTPUT = "output"
# Of the names of parts in parts: a long one above many would take far more memory than its file.
_MAX_NAME_LENGTH = 1000


@dataclasses.dataclass(frozen=True)
class TensorReport:
    """An input or a result.

    Attributes:
        name: as callers know it.
        dtype: like `float32`.
        shape: None in it is an unknown length; None for it is an unknown rank.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class SignatureReport:
    """A named function of a graph version; inputs and outputs are sorted by name, `layer_2` before `layer_10`."""

    name: str
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]


@dataclasses.dataclass(frozen=True)
class CallReport:
    """The `__call__` of a TF2 SavedModel.

    Attributes:
        arguments: as in Python: `images`, `training=False`.
        inputs: the tensors among them, in the first of its functions.
        outputs: what that returns; one tensor is called `output`.
    """

    arguments: tuple[str, ...]
    inputs: tuple[TensorReport, ...]
    outputs: tuple[TensorReport, ...]


@dataclasses.dataclass(frozen=True)
class GraphVersionReport:
    """A MetaGraph.

    Attributes:
        tags: by which it is found; () in TF1 Hub modules is the one for inference.
        signatures: sorted by name.
        call: the `__call__` of its root object, if it has one.
        endpoints: intermediate results, each once: what signatures give beside `default`, or what `__call__` does.
        oldest_tensorflow: that can load it alone, see `hubexport.modules.op_versions`; None if none can.
    """

    tags: tuple[str, ...]
    signatures: tuple[SignatureReport, ...]
    call: CallReport | None
    endpoints: tuple[TensorReport, ...]
    oldest_tensorflow: str | None


def describe_graph_version(meta_graph: Message, oldest_tensorflow: str | None) -> GraphVersionReport:
    """Tells what a MetaGraph takes and gives; what is not understood is left out."""
    signatures = tuple(
        SignatureReport(printable(name), _tensors(signature.inputs), _tensors(signature.outputs))
        for name, signature in sorted(meta_graph.signature_def.items())
        if not name.startswith(_INTERNAL_SIGNATURES)
    )
    functions = _call_functions(meta_graph.object_graph_def)
    if meta_graph.object_graph_def.nodes:
        results = [_flattened(function.output_signature, "") for function in functions if _is_dict(function)]
    else:
        # Without `default`, as in SavedModels that are no Hub modules, all outputs are equal.
        results = [iter(one.outputs) for one in signatures if _DEFAULT in (output.name for output in one.outputs)]
    return GraphVersionReport(
        tags=tuple(map(printable, meta_graph.meta_info_def.tags)),
        signatures=signatures,
        call=_describe_call(meta_graph.object_graph_def, functions),
        endpoints=_sorted({tensor.name: tensor for tensor in itertools.chain(*results) if tensor.name != _DEFAULT}),
        oldest_tensorflow=oldest_tensorflow,
    )


def dtype_name(number: int) -> str:
    """Returns the name of a dtype by its number in protos; a reference to it has the same."""
    return tensorflow_dtype(number % 100)


def _tensors(infos: Mapping[str, Message]) -> tuple[TensorReport, ...]:
    return _sorted({name: _tensor(name, info.dtype, info.tensor_shape) for name, info in infos.items()})


def _tensor(name: str, dtype: int, shape: Message) -> TensorReport:
    lengths = tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
    return TensorReport(printable(name), dtype_name(dtype), None if shape.unknown_rank else lengths)


def _sorted(tensors: Mapping[str, TensorReport]) -> tuple[TensorReport, ...]:
    return tuple(sorted(tensors.values(), key=lambda tensor: natural_key(tensor.name)))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Returns a key by which numbers in names sort by their value.

    Example:
        >>> sorted(["layer_10", "layer_2"], key=natural_key)
        ['layer_2', 'layer_10']
    """
    # The more digits, the larger, so that no number is ever too long to be converted.
    return [(len(part), part) if part.isdigit() else (0, part) for part in re.split(r"([0-9]+)", name)]


def _call_functions(objects: Message) -> list[Message]:
    """Returns what is said of the concrete functions of the root's `__call__`."""
    function = _call_object(objects)
    names = dict.fromkeys(function.concrete_functions) if function else {}
    return [objects.concrete_functions[name] for name in names if name in objects.concrete_functions]


def _call_object(objects: Message) -> Message | None:
    for child in objects.nodes[0].children if objects.nodes else []:
        if child.local_name == "__call__" and 0 <= child.node_id < len(objects.nodes):
            return objects.nodes[child.node_id].function
    return None


def _is_dict(function: Message) -> bool:
    return bool(function.output_signature.HasField("dict_value"))


def _describe_call(objects: Message, functions: Iterable[Message]) -> CallReport | None:
    function = _call_object(objects)
    first = next(iter(functions), None)
    if function is None or first is None:
        return None
    return CallReport(
        arguments=tuple(_arguments(function.function_spec)),
        inputs=tuple(_flattened(first.canonicalized_input_signature, "", named=True)),
        outputs=tuple(_flattened(first.output_signature, "" if _is_dict(first) else _ONLY_OUTPUT)),
    )


def _arguments(spec: Message) -> Iterator[str]:
    """Yields the arguments of an `inspect.FullArgSpec`; those from `*` on are not shown."""
    fields = {pair.key: pair.value for pair in spec.fullargspec.named_tuple_value.values}
    names = [value.string_value for value in fields["args"].list_value.values] if "args" in fields else []
    defaults = list(fields["defaults"].tuple_value.values) if "defaults" in fields else []
    without = len(names) - len(defaults)
    for number, name in enumerate(names):
        if number > 0 or not spec.is_method:  # Otherwise it is `self`.
            yield (
                printable(name)
                if number < without
                else f"{printable(name)}={_python_value(defaults[number - without])}"
            )


def _python_value(value: Message) -> str:
    kind = value.WhichOneof("kind")
    if kind == "none_value":
        return "None"
    return repr(getattr(value, kind)) if kind in _PYTHON_KINDS else "..."


def _flattened(structure: Message, name: str, *, named: bool = False) -> Iterator[TensorReport]:
    """Yields the tensors of a nested structure.

    Args:
        structure: a StructuredValue.
        name: of the whole; parts have theirs behind a `/`.
        named: take the tensors' own names instead where they have some.
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
