"""Lists, sets up and removes consumers: old and new TensorFlow versions, each in its own virtual environment.

`hubexport verify --consumers` loads and trains modules there, as programs of that time would.
"""

import argparse
from collections.abc import Callable, Sequence
import json
import sys
from typing import TYPE_CHECKING, Any

from hubexport.cli.arguments import add_format_argument, add_quiet
from hubexport.cli.error_lines import print_errors
from hubexport.cli.progress_display import shown_progress
from hubexport.cli.text_tables import Column, print_table
from hubexport.errors import HubexportError

if TYPE_CHECKING:
    from hubexport.consumers.registry import PinnedConsumer
    from hubexport.modules.module_report import Format

SUMMARY = "manage the TensorFlow versions in which verify tries modules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `hubexport consumers`."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = _add_action(
        actions, "list", _list, "list all consumers, the modules they load, and whether they are set up"
    )
    add_format_argument(listing, "text", "json")
    creating = _add_action(
        actions, "create", _create, "set up consumers with packages from pip: up to 2 GB each, 8.4 GB for all"
    )
    add_quiet(creating)
    for action in (creating, _add_action(actions, "remove", _remove, "delete consumers from the disk")):
        action.add_argument("names", nargs="+", metavar="NAME", help="a name from `hubexport consumers list`, or all")


def _add_action(
    actions: Any, name: str, action: Callable[[argparse.Namespace], int], help_: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name, help=help_, description=f"{help_[0].upper()}{help_[1:]}."
    )
    # Errors must name the action's flags, which the parser of the command does not know.
    parser.set_defaults(action=action, parser=parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs the action, and returns the exit status."""
    return int(args.action(args))


def _list(args: argparse.Namespace) -> int:
    from hubexport.consumers.registry import CONSUMERS

    if args.format == "json":
        described = [
            {
                "name": consumer.name,
                "python": consumer.python,
                "tensorflow": consumer.tensorflow,
                "tensorflow_hub": consumer.tensorflow_hub,
                "has_hub_module": consumer.has_hub_module,
                "loads": consumer.loads,
                "state": consumer.environment.state,
                "interpreter": str(consumer.environment.interpreter) if consumer.environment.is_ready else None,
            }
            for consumer in CONSUMERS
        ]
        print(json.dumps(described, indent=2))
    else:
        _print_table(CONSUMERS)
    return 0


def _print_table(consumers: "Sequence[PinnedConsumer]") -> None:
    columns = [
        Column("consumer", [one.name for one in consumers]),
        Column("Python", [one.python for one in consumers], importance=1),
        Column("TensorFlow", [one.tensorflow for one in consumers], importance=4),
        Column("tensorflow_hub", [one.tensorflow_hub for one in consumers], importance=2),
        Column("TF1 Hub modules", [_tf1_versions(one) for one in consumers], importance=3, kind="words"),
        Column("TF2 SavedModels", [_versions(one, "TF2 SavedModel") or "-" for one in consumers], 3, kind="words"),
        Column("state", [_state(one) for one in consumers], importance=5, kind="words"),
    ]
    print_table(columns, sys.stdout)


def _tf1_versions(consumer: "PinnedConsumer") -> str:
    return f"{_versions(consumer, 'TF1 Hub module')} by {'hub.Module' if consumer.has_hub_module else 'hub.load'}"


def _versions(consumer: "PinnedConsumer", format_: "Format") -> str:
    return ", ".join(str(version) for version in consumer.loads[format_])


def _state(consumer: "PinnedConsumer") -> str:
    state = consumer.environment.state
    return f"needs Python {consumer.python}" if state == "Python missing" else state


def _create(args: argparse.Namespace) -> int:
    from hubexport.consumers.environments import create
    from hubexport.consumers.registry import select_consumers

    consumers = select_consumers(args.names)
    errors = []
    with shown_progress(args.quiet) as progress:
        for consumer in consumers:
            try:
                progress.result(f"{consumer.name:14}{create(consumer.environment, progress)}")
            except HubexportError as error:
                errors.append(error)
    return print_errors(errors)


def _remove(args: argparse.Namespace) -> int:
    from hubexport.consumers.environments import remove
    from hubexport.consumers.registry import select_consumers

    errors = []
    for consumer in select_consumers(args.names):
        try:
            removed = remove(consumer.name)
        except HubexportError as error:
            errors.append(error)
            continue
        for folder in removed:
            print(folder, flush=True)
        if not removed:
            print(f"{consumer.name} is not set up", file=sys.stderr)
    return print_errors(errors)
