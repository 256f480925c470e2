"""Writes the objects of a TF2 SavedModel, from which `tf.saved_model.load` makes its Python object.

A SavedObjectGraph is a list of objects that refer to each other by index: the root, lists, variables, and functions. A
function object contains no nodes. It names FunctionDefs in the graph's library and says, for each, which variables it
takes besides its arguments, and how its arguments and results are nested. StructuredValues encode that nesting.

Moving averages are read as the mean over all replicas. With TensorFlow's default they would drift apart under
MirroredStrategy, without an error.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Any

from hubexport.formats.nodes import Dims, shape_proto
from hubexport.layouts.tf2 import KEY_SUFFIX, checkpoint_key
from hubexport.networks.ops import Variable
from hubexport.protos import (
    DT_FLOAT,
    FunctionSpec,
    Message,
    SavedFunction,
    SavedObject,
    SavedObjectGraph,
    StructuredValue,
    TrackableObjectGraph,
)

_ROOT = 0

# tensorflow/core/framework/variable.proto
_ON_READ = 3
_MEAN = 2

# What TensorFlow calls the one value of a variable in checkpoints.
_VALUE = KEY_SUFFIX.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """A float32 tensor among a function's arguments or results. None in its shape is an unknown length."""

    shape: Dims
    name: str


def argument_name(name: str) -> str:
    """Returns the closest name that a FunctionDef allows for arguments and results: of `a-z`, `0-9` and `_`."""
    return re.sub("[^a-z0-9_]", "_", name.lower())


class ObjectGraphWriter:
    """Writes a SavedObjectGraph. Objects are added first, and are then attached to the root by their index.

    Attributes:
        objects: the SavedObjectGraph.
    """

    def __init__(self) -> None:
        self.objects = SavedObjectGraph()
        self._keys: dict[int, Variable] = {}
        self._add(user_object=_user_object("_generic_user_object"))

    def _add(self, **kind: Any) -> int:
        self.objects.nodes.append(SavedObject(**kind))
        return len(self.objects.nodes) - 1

    def attach(self, name: str, child: int, parent: int = _ROOT) -> None:
        """Makes an object an attribute of another one, by default of the root."""
        self.objects.nodes[parent].children.add(node_id=child, local_name=name)

    def list_of(self, items: Sequence[int]) -> int:
        """Adds a list of objects, and returns its index."""
        index = self._add(user_object=_user_object("trackable_list_wrapper"))
        for number, item in enumerate(items):
            self.attach(str(number), item, parent=index)
        return index

    def signatures(self, functions: Mapping[str, int]) -> int:
        """Adds the value of the root's attribute `signatures`, functions by name, and returns its index."""
        index = self._add(user_object=_user_object("signature_map"))
        for name, function in functions.items():
            self.attach(name, function, parent=index)
        return index

    def variable(self, variable: Variable) -> int:
        """Adds a variable, and returns its index."""
        # Only moving averages are not trainable.
        average = {} if variable.trainable else {"synchronization": _ON_READ, "aggregation": _MEAN}
        index = self._add(
            variable={
                "dtype": DT_FLOAT,
                "shape": shape_proto(variable.shape),
                "trainable": variable.trainable,
                "name": variable.name,
                **average,
            }
        )
        self._keys[index] = variable
        return index

    def concrete_function(
        self,
        name: str,
        arguments: Sequence[Any],
        result: Any,
        variables: Sequence[int],
        keywords: Sequence[TensorSpec] = (),
    ) -> None:
        """Describes a FunctionDef of the library.

        Args:
            name: the FunctionDef's name.
            arguments: its arguments in order: a TensorSpec, or for a flag the one value that the FunctionDef is for.
            result: a TensorSpec, or a dictionary of them.
            variables: the indices of the variables whose handles it takes after its tensors.
            keywords: the arguments that it takes by keyword.
        """
        described = self.objects.concrete_functions[name]
        described.bound_inputs.extend(variables)
        nested_arguments = (*arguments,), {spec.name: spec for spec in keywords}
        described.canonicalized_input_signature.CopyFrom(structured(nested_arguments))
        described.output_signature.CopyFrom(structured(result))

    def function(self, names: Sequence[str], defaults: Mapping[str, Any]) -> int:
        """Adds a function, and returns its index. A call runs the first of its FunctionDefs that the arguments fit.

        Args:
            names: the names of the FunctionDefs, each described with `concrete_function`.
            defaults: each argument's default by the argument's name, in order; Ellipsis for no default.
        """
        values = tuple(value for value in defaults.values() if value is not ...)
        spec = _function_spec(list(defaults), values or None, [])
        return self._add(function=SavedFunction(concrete_functions=names, function_spec=spec))

    def signature(self, name: str, arguments: Sequence[TensorSpec], result: Any, variables: Sequence[int]) -> int:
        """Adds a function for `signatures`, and returns its index.

        It takes its arguments by keyword, and returns a dictionary of tensors. `name` and `variables` are those of
        `concrete_function`.
        """
        keywords = [spec.name for spec in arguments]
        self.concrete_function(name, (), result, variables, keywords=arguments)
        return self._add(
            bare_concrete_function={
                "concrete_function_name": name,
                "argument_keywords": keywords,
                "allowed_positional_arguments": len(keywords),
                "function_spec": _function_spec([], None, keywords),
            }
        )

    def checkpoint_graph(self) -> Message:
        """Returns the same objects as a TrackableObjectGraph, which leads from the root to the keys of a checkpoint."""
        graph = TrackableObjectGraph()
        for index, saved in enumerate(self.objects.nodes):
            node = graph.nodes.add(children=saved.children)
            if index in self._keys:
                variable = self._keys[index]
                node.attributes.add(name=_VALUE, full_name=variable.name, checkpoint_key=checkpoint_key(variable))
        return graph


def _user_object(identifier: str) -> dict[str, Any]:
    return {"identifier": identifier, "version": {"producer": 1, "min_consumer": 1}}


def _function_spec(arguments: list[str], defaults: tuple[Any, ...] | None, keywords: list[str]) -> Message:
    """Returns a function's `inspect.FullArgSpec` as TensorFlow stores it."""
    fields: dict[str, Any] = {
        "args": arguments,
        "varargs": None,
        "varkw": None,
        "defaults": defaults,
        "kwonlyargs": keywords,
        "kwonlydefaults": None,
        "annotations": {},
    }
    pairs = [{"key": key, "value": structured(value)} for key, value in fields.items()]
    return FunctionSpec(
        fullargspec=StructuredValue(named_tuple_value={"name": "FullArgSpec", "values": pairs}),
        input_signature=structured(None),
    )


def structured(value: Any) -> Message:
    """Encodes a nested structure of None, bools, floats, strings, tuples, lists, dictionaries and TensorSpecs.

    Raises:
        TypeError: the structure contains something else.
    """
    match value:
        case None:
            return StructuredValue(none_value={})
        case bool():
            return StructuredValue(bool_value=value)
        case float():
            return StructuredValue(float64_value=value)
        case str():
            return StructuredValue(string_value=value)
        case TensorSpec(shape, name):
            return StructuredValue(tensor_spec_value={"name": name, "shape": shape_proto(shape), "dtype": DT_FLOAT})
        case tuple():
            return StructuredValue(tuple_value={"values": map(structured, value)})
        case list():
            return StructuredValue(list_value={"values": map(structured, value)})
        case dict():
            fields = {key: structured(item) for key, item in value.items()}
            return StructuredValue(dict_value={"fields": fields})
        case _:
            raise TypeError(f"{value!r} has no StructuredValue")
