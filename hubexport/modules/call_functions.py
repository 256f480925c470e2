"""The functions that `__call__` of a TF2 SavedModel chooses from by its flags, as the file has them."""

from hubexport.protos import Message

_DEFAULT = "default"


def computes_default_twice(meta_graph: Message, training: bool) -> bool:
    """Tells whether the functions with and without endpoints compute the default output by the same nodes.

    Then they have the same effects, and the same gradients. If in doubt they do not.

    Args:
        meta_graph: the MetaGraph of a TF2 SavedModel.
        training: whether to compare the functions for training, or those for inference.
    """
    bound = meta_graph.object_graph_def.concrete_functions
    functions = {function.signature.name: function for function in meta_graph.graph_def.library.function}
    chosen = _functions_by_flags(meta_graph)
    names = [chosen.get((training, return_endpoints)) for return_endpoints in (False, True)]
    if any(name not in functions for name in names):
        return False
    plain, with_endpoints = (functions[name] for name in names)
    [*results] = plain.ret.values()
    return (
        [*plain.node_def] == [*with_endpoints.node_def]
        and [*plain.signature.input_arg] == [*with_endpoints.signature.input_arg]
        and plain.control_ret == with_endpoints.control_ret
        and [*bound[names[0]].bound_inputs] == [*bound[names[1]].bound_inputs]
        and _DEFAULT in with_endpoints.ret
        and results == [with_endpoints.ret[_DEFAULT]]
    )


def _functions_by_flags(meta_graph: Message) -> dict[tuple[bool, ...], str]:
    """Returns the names of the functions of `__call__` by the flags `training` and `return_endpoints`."""
    objects = meta_graph.object_graph_def
    functions = {}
    for child in objects.nodes[0].children if objects.nodes else ():
        if child.local_name == "__call__":
            for name in objects.nodes[child.node_id].function.concrete_functions:
                signature = objects.concrete_functions[name].canonicalized_input_signature
                # The positional arguments come first, and then those by keyword.
                arguments = [one for values in signature.tuple_value.values[:1] for one in values.tuple_value.values]
                flags = (one.bool_value for one in arguments if one.WhichOneof("kind") == "bool_value")
                functions[tuple(flags)] = name
    return functions
