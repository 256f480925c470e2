"""Writes the scripts with which bash, zsh and fish complete the commands of hubexport."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from hubexport.cli.command_words import Command, Flag, Values

# In each script, @NAME@ stands for what the parsers know.
_BASH = r"""# Completes hubexport in bash.
_hubexport() {
    local current=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD-1]}
    local command= list= paths= words= before= found i
    # bash takes --flag=value for three words.
    if [[ $current == = ]]; then
        current=
    elif [[ $flag == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$command ${COMP_WORDS[i]}" in
            @COMMANDS@) command="${command:+$command }${COMP_WORDS[i]}" ;;
        esac
    done
    case "$command $flag" in
@VALUES@
        *)
            if [[ $current == -* ]]; then
                case "$command" in
@FLAGS@
                esac
            else
                case "$command" in
@ARGUMENTS@
                esac
            fi
            ;;
    esac
    if [[ -n $list && $current == *,* ]]; then
        before=${current%,*},
        current=${current##*,}
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -P "$before" -- "$current")
    if [[ -n $paths ]]; then
        compopt -o filenames 2> /dev/null
        while IFS= read -r found; do COMPREPLY+=("$found"); done < <(compgen "$paths" -- "$current")
    fi
}
complete -F _hubexport hubexport
"""
_ZSH = r"""#compdef hubexport
# Completes hubexport in zsh.
_hubexport() {
    local command=
    local -a names=(@COMMANDS@)
    while (( CURRENT > 2 && $names[(Ie)${command:+$command }$words[2]] )); do
        command="${command:+$command }$words[2]"
        shift words
        (( CURRENT-- ))
    done
    case $command in
@CASES@
    esac
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _hubexport hubexport
"""
_FISH = r"""# Completes hubexport in fish.
function __hubexport_is
    set -l words (commandline -opc)
    test (count $words) -gt (count $argv); or return 1
    for position in (seq (count $argv))
        test $words[(math $position + 1)] = $argv[$position]; or return 1
    end
end
function __hubexport_ends
    test (count (commandline -opc)) -eq (math (count $argv) + 1); and __hubexport_is $argv
end
function __hubexport_list
    set -l before (commandline -ct | string replace -r '^--[^=]*=' '' | string replace -r '[^,]*$' '')
    printf '%s\n' $before$argv
end
complete -c hubexport -f
@LINES@
"""


def bash_script(commands: Sequence[Command]) -> str:
    """Returns the script for bash."""
    names = [command.name for command in commands if command.name]
    by_values: dict[Values, list[str]] = {}
    for command in commands:
        for flag in command.flags:
            if flag.values:
                by_values.setdefault(flag.values, []).extend(f'"{command.name} {name}"' for name in flag.names)
    return _filled(
        _BASH,
        COMMANDS="|".join(f'"{parent} {last}"' for parent, _, last in (name.rpartition(" ") for name in names)),
        VALUES="\n".join(f"        {'|'.join(places)}) {_in_bash(values)};;" for values, places in by_values.items()),
        FLAGS="\n".join(
            f'                    "{command.name}") {_in_bash(Values(_flag_names(command)))};;' for command in commands
        ),
        ARGUMENTS="\n".join(
            f'                    "{command.name}") {_in_bash(command.arguments or Values(_flag_names(command)))};;'
            for command in commands
        ),
    )


def _in_bash(values: Values) -> str:
    words = f'words="{" ".join(values.words)}" ' * bool(values.words)
    paths = {"none": "", "files": "paths=-f ", "directories": "paths=-d "}[values.paths]
    return words + paths + "list=1 " * values.listed


def zsh_script(commands: Sequence[Command]) -> str:
    """Returns the script for zsh."""
    cases = []
    for command in commands:
        specs = [spec for flag in command.flags for spec in _zsh_flag(flag)]
        if command.actions:
            described = " ".join(f'{name}\\:"{summary}"' for name, summary in command.actions.items())
            specs.append(_in_quotes(f"1:command:(({described}))"))
        elif command.arguments:
            specs.append(_in_quotes(f"*:argument:{_zsh_action(command.arguments)}"))
        cases.append(f"        {_in_quotes(command.name)}) _arguments {' '.join(specs)} ;;")
    names = " ".join(_in_quotes(command.name) for command in commands if command.name)
    return _filled(_ZSH, COMMANDS=names, CASES="\n".join(cases))


def _zsh_flag(flag: Flag) -> Iterable[str]:
    help_ = flag.help
    for special in "\\[]:":
        help_ = help_.replace(special, f"\\{special}")
    for name in flag.names:
        takes = f":value:{_zsh_action(flag.values)}" if flag.values else ""
        equals = "=" if takes and name.startswith("--") else ""
        yield _in_quotes(f"*{name}{equals}[{help_}]{takes}")


def _zsh_action(values: Values) -> str:
    if values.listed:
        return f"{{_values -s , value {' '.join(values.words)}}}"
    if values.words:
        return f"({' '.join(values.words)})"
    return {"none": " ", "files": "_files", "directories": "_files -/"}[values.paths]


def _in_quotes(text: str) -> str:
    """Quotes a text for zsh and bash."""
    return "'" + text.replace("'", "'\\''") + "'"


def fish_script(commands: Sequence[Command]) -> str:
    """Returns the script for fish."""
    lines = []
    for command in commands:
        for name, summary in command.actions.items():
            lines.append(f"'__hubexport_ends {command.name}' -a {name} -d {_in_fish(summary)}")
        place = f"'__hubexport_is {command.name}'" if command.name else "__hubexport_ends"
        for flag in command.flags:
            names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names)
            # -x: a value must follow, and it is no file. -r: it may be one.
            must = "" if not flag.values else "-r " if flag.values.paths == "files" else "-x "
            values = f"{must}{_fish_values(flag.values)} " if flag.values else ""
            lines.append(f"{place} {names} {values}-d {_in_fish(flag.help)}")
        if command.arguments and not command.actions:
            lines.append(f"{place} {_fish_values(command.arguments)}")
    return _filled(_FISH, LINES="\n".join(f"complete -c hubexport -n {line}" for line in lines))


def _fish_values(values: Values) -> str:
    words = " ".join(values.words)
    if values.listed:
        return f"-a '(__hubexport_list {words})'"
    if values.words:
        return f"-a '{words}'"
    return {"none": "", "files": "-F", "directories": "-a '(__fish_complete_directories)'"}[values.paths]


def _in_fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _flag_names(command: Command) -> tuple[str, ...]:
    return tuple(name for flag in command.flags for name in flag.names)


def _filled(script: str, **texts: str) -> str:
    for name, text in texts.items():
        script = script.replace(f"@{name}@", text)
    return script


SCRIPTS: Mapping[str, Callable[[Sequence[Command]], str]] = {
    "bash": bash_script,
    "zsh": zsh_script,
    "fish": fish_script,
}
