"""What may leave a doubt about which network of a file is meant, and the error that says so."""

from hubexport.checkpoints.open_checkpoint import OpenedCheckpoint
from hubexport.errors import CheckpointError, either


def undecided_error(opened: OpenedCheckpoint, use: str, fix: str) -> CheckpointError:
    """Returns the error for a file of several networks, or of values that fit several.

    Args:
        opened: the file. Its network is known, and another one is possible.
        use: what cannot be done with it, like `convert`.
        fix: how to say which network is meant.
    """
    recognition = opened.recognition
    assert recognition, "without a network, there is no doubt"
    if recognition.others:
        why = (
            f"it holds all variables of {' and '.join(one.family.title for one in (recognition, *recognition.others))}"
        )
    else:
        why = f"its variables are those of {either([one.title for one in (recognition.family, *recognition.alike)])}"
    return CheckpointError(f"cannot tell which network of {opened.shown_as} to {use}", why=why, fix=fix)
