"""Which of a network's endpoints a user asks for."""

from collections.abc import Sequence
from typing import Literal

from hubexport.errors import UsageError, guess
from hubexport.networks.family import Family
from hubexport.networks.network import Network

EndpointRequest = Sequence[str] | Literal["all"]


def endpoint_keys(network: Network, family: Family, endpoints: EndpointRequest) -> tuple[str, ...]:
    """Returns the keys of endpoints.

    Args:
        network: has them.
        family: the network's.
        endpoints: keys, or `all`.
    Raises:
        UsageError: the network has no endpoint of a key.
    """
    if endpoints == "all":
        return tuple(network.endpoints)
    for key in endpoints:
        if key not in network.endpoints:
            first, *_, last = network.endpoints
            longer = next((one for one in network.endpoints if one.endswith(f"/{key}")), key)
            raise UsageError(
                f"{family.title} has no endpoint {key}{guess(longer, network.endpoints)}",
                why=f"its {len(network.endpoints)} endpoints go from {first} to {last}",
                fix="use one of them, or ask for all",
            )
    return tuple(endpoints)
