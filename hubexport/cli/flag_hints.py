"""Where a flag belongs that a command does not have, for cases in which the letters cannot tell.

A new hint is a row here: the command, the flag, why the command has no such flag, and what to write. In what to write,
`{value}` stands for the value that was given.
"""

_IMAGES = "the photographs are arguments of the command"
_MODULE = "the module is an argument of the command"
_RELEASE = "the release is an argument of the command"
_HINTS = {
    ("list", "--variant"): ("names and patterns are arguments of `list`", "write `hubexport list {value}`"),
    ("list", "--module"): ("`list` shows the modules of each variant", "write `hubexport list`"),
    ("build", "--to"): (
        "`build` makes modules, and deployments of them",
        "write `hubexport convert SOURCE TARGET --to {value}`, or add --deployment FORMAT",
    ),
    ("build", "--checks"): ("`verify` runs checks on a module", "write `hubexport verify MODULE --checks {value}`"),
    ("build", "--image"): ("`classify` runs a module on photographs", "write `hubexport classify MODULE {value}`"),
    ("fetch", "--output-dir"): ("archives are kept in a cache", "write --cache-dir {value}"),
    ("fetch", "--module"): ("one archive serves all modules of its variant", "leave it out"),
    ("convert", "--checkpoint"): ("SOURCE is an argument of `convert`", "write `hubexport convert {value} TARGET`"),
    ("convert", "--source"): ("SOURCE is an argument of `convert`", "write `hubexport convert {value} TARGET`"),
    ("convert", "--target"): ("TARGET is an argument of `convert`", "write `hubexport convert SOURCE {value}`"),
    ("convert", "--output"): ("TARGET is an argument of `convert`", "write `hubexport convert SOURCE {value}`"),
    ("convert", "--output-dir"): ("TARGET is an argument of `convert`", "write `hubexport convert SOURCE {value}`"),
    ("convert", "-o"): ("TARGET is an argument of `convert`", "write `hubexport convert SOURCE {value}`"),
    ("convert", "--module"): ("`convert` writes no modules", "write --kind feature_vector or --kind classification"),
    ("convert", "--deployment"): ("`convert` writes one format", "write --to {value}"),
    ("inspect", "--checkpoint"): ("PATH is an argument of `inspect`", "write `hubexport inspect {value}`"),
    ("diff", "--checkpoint"): ("both sources are arguments of `diff`", "write `hubexport diff A B`"),
    ("verify", "--output-dir"): ("`verify` writes only an HTML report", "write --report FILE"),
    ("verify", "--output"): ("`verify` writes only an HTML report", "write --report {value}"),
    ("verify", "-o"): ("`verify` writes only an HTML report", "write --report {value}"),
    ("classify", "--images"): (_IMAGES, "write `hubexport classify MODULE {value}`"),
    ("classify", "--module"): (_MODULE, "write `hubexport classify {value} IMAGE`"),
    ("features", "--images"): (_IMAGES, "write `hubexport features MODULE {value} --output FILE`"),
    ("features", "--module"): (_MODULE, "write `hubexport features {value} IMAGE --output FILE`"),
    ("features", "--output-dir"): ("`features` writes one file", "write --output FILE"),
    ("evaluate", "--images"): ("labelled images are data", "write --data {value}"),
    ("evaluate", "--module"): (_MODULE, "write `hubexport evaluate {value} --data DIR`"),
    ("release", "--overwrite"): (
        "published modules never change",
        "release under another version, or into another --output-dir",
    ),
    ("release", "--output"): ("a release is a folder", "write --output-dir {value}"),
    ("build", "--output"): ("modules go below a folder", "write --output-dir {value}"),
    ("serve", "--output-dir"): (_RELEASE, "write `hubexport serve {value}`"),
    ("serve", "-o"): (_RELEASE, "write `hubexport serve {value}`"),
    ("check", "--output-dir"): (_RELEASE, "write `hubexport check {value}`"),
    ("check", "-o"): (_RELEASE, "write `hubexport check {value}`"),
}


def hint(command: str, flag: str, value: str) -> tuple[str, str] | None:
    """Returns why a command does not have a flag and what to write; None if there is no hint for it."""
    if (found := _HINTS.get((command, flag))) is None:
        return None
    why, fix = found
    return why, fix.replace("{value}", value)
