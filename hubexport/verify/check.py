"""What a check is: a named, documented function of a module's context that returns a finding."""

from collections.abc import Callable
import dataclasses
import inspect

from hubexport.verify.context import VerificationContext
from hubexport.verify.finding import Finding


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise, and how it is looked at.

    Attributes:
        name: its group and its own name, like `structure.digests`.
        promise: one line: what holds of a module that passes.
        run: looks at the evidence; raises NotApplicable.
        needs_tensorflow: whether it runs the module, or something else, in the installed TensorFlow.
    """

    name: str
    promise: str
    run: Callable[[VerificationContext], Finding]
    needs_tensorflow: bool = False


class CheckGroup:
    """The checks of one module of this package, in the order in which they are defined.

    Args:
        name: the first part of their names.
        needs_tensorflow: whether they run anything in the installed TensorFlow.
    """

    def __init__(self, name: str, *, needs_tensorflow: bool = False) -> None:
        self._name = name
        self._needs_tensorflow = needs_tensorflow
        self.checks: list[Check] = []

    def check(self, function: Callable[[VerificationContext], Finding]) -> Callable[[VerificationContext], Finding]:
        """Makes a function a check: its name is the check's, the first line of its docstring the promise."""
        promise = (inspect.getdoc(function) or "").partition("\n")[0]
        self.checks.append(Check(f"{self._name}.{function.__name__}", promise, function, self._needs_tensorflow))
        return function
