"""The layout of TensorFlow 2's object-based checkpoints, as our own TF2 modules hold them."""

from hubexport.layouts.rules import VariableLayout
from hubexport.networks.network import Network
from hubexport.networks.ops import Variable

# TensorFlow appends it to the path of an object with one value.
KEY_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# The key of the graph that leads from objects to keys.
OBJECT_GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def checkpoint_key(variable: Variable) -> str:
    """Returns the key of a variable's value in the checkpoint of a TF2 module."""
    return f"{variable.name}{KEY_SUFFIX}"


def tf2_layout(network: Network) -> tuple[VariableLayout, ...]:
    """Returns the layouts of a network's variables in the checkpoints of TF2 modules."""
    return tuple(VariableLayout(variable, checkpoint_key(variable)) for variable in network.variables)
