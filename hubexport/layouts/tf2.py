"""TensorFlow 2's object-based checkpoints, as our own TF2 modules hold them."""

from hubexport.layouts.rules import VariableLayout
from hubexport.networks.network import Network
from hubexport.networks.ops import Variable

# What TensorFlow appends to the path of an object that has one value.
KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# Where such a checkpoint keeps the graph that leads from objects to keys.
OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def checkpoint_key(variable: Variable) -> str:
    """Returns the name under which a variable's value stands in the checkpoint of a TF2 module."""
    return f"{variable.name}{KEY_SUFFIX}"


def tf2(network: Network) -> tuple[VariableLayout, ...]:
    """Returns a network's variables as the checkpoints of TF2 modules have them."""
    return tuple(VariableLayout(variable, checkpoint_key(variable)) for variable in network.variables)
