"""How long a proof takes: users hear of a long one before it begins."""

from collections.abc import Sequence

from hubexport.consumers.registry import Consumer
from hubexport.modules.identity import ModuleIdentity
from hubexport.networks.costs import multiply_adds
from hubexport.networks.network import Network

_LONG_S = 600.0
# Rough: with two cores, the checks fit NASNet-A (large), and the consumers MobileNet V2 and NASNet-A (mobile); a busy
# machine takes longer. TensorFlow's time for a graph grows with its ops; that of training and of forward passes in
# float64 grows with the multiply-adds.
_CHECKS_S, _CHECKS_S_PER_BILLION = 20.0, 8.0
_CONSUMER_S, _CONSUMER_S_PER_OP, _CONSUMER_S_PER_BILLION = 30.0, 0.15, 30.0


def warning_of_length(module: ModuleIdentity, consumers: Sequence[Consumer]) -> str | None:
    """Returns a line about a proof of over ten minutes, with what to choose instead; None for a shorter one."""
    used = [one for one in consumers if any(module.spec.version in loaded for loaded in one.loads.values())]
    seconds = estimated_seconds(module.network, len(used))
    if seconds <= _LONG_S:
        return None
    where = f" in {len(used)} TensorFlows" if used else ""
    fewer = "name fewer TensorFlows after --consumers, or " if used else ""
    return (
        f"proving {module.shown_as}{where} takes about {seconds / 60:.0f} minutes with two cores; "
        f"for a quick answer {fewer}choose checks, like --checks rebuild,weights"
    )


def estimated_seconds(network: Network, num_consumers: int) -> float:
    """Returns about how long all checks take with two cores, and the thorough uses by so many consumers."""
    billions = sum(multiply_adds(network).values()) / 1e9
    consumer = _CONSUMER_S + _CONSUMER_S_PER_OP * len(network.ops) + _CONSUMER_S_PER_BILLION * billions
    return _CHECKS_S + _CHECKS_S_PER_BILLION * billions + num_consumers * consumer
