"""The most connections at once, of all processes of a server together."""

import mmap

_NUMBER_BYTES = 8


class ConnectionLimit:
    """Knows how many connections each worker has.

    Every worker writes its own number to shared memory, and reads all. There is no lock that a killed worker could
    keep: if several workers accept connections in the same moment, each may admit one too many.

    Args:
        max_connections: the most connections at once.
        workers: how many processes share the limit.
    Attributes:
        max_connections: see above.
        worker: the number of this process among them.
    """

    def __init__(self, max_connections: int, workers: int = 1) -> None:
        self.max_connections = max_connections
        self.worker = 0
        # Shared with the processes that this one forks.
        self._numbers = memoryview(mmap.mmap(-1, _NUMBER_BYTES * workers)).cast("Q")

    def note(self, number: int) -> None:
        """Notes how many connections this worker has."""
        self._numbers[self.worker] = number

    def forget(self, worker: int) -> None:
        """Notes that a worker has ended."""
        self._numbers[worker] = 0

    @property
    def is_exceeded(self) -> bool:
        """Whether there are more connections than permitted."""
        return sum(self._numbers) > self.max_connections
