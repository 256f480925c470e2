"""What a check is: a named, documented function of a verification's context that returns a finding."""

from collections.abc import Callable
import dataclasses
import functools
import inspect
import time
from typing import Any, TypeVar

from hubexport.errors import HubexportError, TemporaryFileError
from hubexport.progress import Progress
from hubexport.verify.finding import Finding, NotApplicable
from hubexport.verify.result import CheckResult, Proof, Subject

_Function = TypeVar("_Function", bound=Callable[[Any], Finding])

# TensorFlow may say a lot about a damaged module.
_MAX_ERROR_LINES = 20


@dataclasses.dataclass(frozen=True)
class Check:
    """One promise about modules or deployments, and the function that tests it.

    Attributes:
        name: its group and its own name, like `structure.digests`.
        promise: what holds of a module that passes, in one line.
        run: tests the promise, given the context of a verification of its subject. Raises NotApplicable if there is
            nothing to look at.
        proof: what it proves the promise by.
        needs_runtime: whether it runs anything: a module in the installed TensorFlow, a deployment in the runtime of
            its format.
        subject: what it is a promise about.
        counterpart: for a check of deployments, the name of the check of modules that promises the same.
    """

    name: str
    promise: str
    run: Callable[[Any], Finding]
    proof: Proof
    needs_runtime: bool = False
    subject: Subject = "module"
    counterpart: str | None = None


class CheckGroup:
    """The checks of one file in `checks/`, in the order of their definitions.

    Args:
        name: the first part of the checks' names.
        proof: what the checks prove their promises by.
        needs_runtime: whether the checks run anything, see `Check`.
        subject: what they are promises about.
    """

    def __init__(self, name: str, *, proof: Proof, needs_runtime: bool = False, subject: Subject = "module") -> None:
        self._name = name
        self._proof = proof
        self._needs_runtime = needs_runtime
        self._subject = subject
        self.checks: list[Check] = []

    def check(self, function: _Function) -> _Function:
        """Adds a function as a check. It gives the check its name, and the first line of its docstring the promise."""
        return self._added(function, None)

    def counterpart_of(self, name: str) -> Callable[[_Function], _Function]:
        """Like `check`, for a check of deployments that promises what the named check promises of modules."""
        return functools.partial(self._added, counterpart=name)

    def _added(self, function: _Function, counterpart: str | None) -> _Function:
        promise = (inspect.getdoc(function) or "").partition("\n")[0]
        name = f"{self._name}.{function.__name__}"
        check = Check(name, promise, function, self._proof, self._needs_runtime, self._subject, counterpart)
        self.checks.append(check)
        return function


def run_check(check: Check, context: object, progress: Progress) -> CheckResult:
    """Runs a check and times it. A check that breaks off has failed.

    Raises:
        TemporaryFileError: there is no room for temporary files, which says nothing about the module.
    """
    progress.step(f"checking {check.name}")
    started = time.perf_counter()
    try:
        finding = check.run(context)
        fields = {name: field for name, field in vars(finding).items() if name != "passed"}
        result = CheckResult(check.name, "pass" if finding.passed else "fail", **fields)
    except NotApplicable as reason:
        result = CheckResult(check.name, "not applicable", str(reason))
    except TemporaryFileError:
        raise
    except HubexportError as error:
        result = CheckResult(check.name, "fail", f"{error.what}: {error.why}", details=error.details)
    # TensorFlow raises errors of any kind when it loads or runs a damaged module.
    except Exception as error:  # pylint: disable=broad-exception-caught
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        details = tuple(lines[1:_MAX_ERROR_LINES])
        result = CheckResult(check.name, "fail", f"{type(error).__name__}: {lines[0]}", details=details)
    return dataclasses.replace(result, proof=check.proof, seconds=time.perf_counter() - started)
