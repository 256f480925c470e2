"""How the MobileNets round their numbers of channels."""


def divisible(channels: float) -> int:
    """Rounds to the nearest multiple of 8, at least 8, and never below 0.9 of what was asked for."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
