"""The command line: reads arguments, hands them to one command, turns errors into one clear line and an exit status.

0: it went as asked. 1: the command looked at something and found it wanting. 2: it could not start: an argument,
a setting or a policy is wrong. A command's module is imported only when the command is run, so that help is instant.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from shutil import get_terminal_size
from typing import Any

from guardproxy import __version__
from guardproxy.config import CONFIG, PREFIX, Settings, flag_name, options, shown
from guardproxy.errors import ConfigError, GuardproxyError
from guardproxy.strict import clip, suggest

WIDTH = 100
_EPILOG = """\
To guard a real endpoint:

  guardproxy serve --upstream https://api.openai.com/v1

and give your application the base URL http://127.0.0.1:8080/v1. `guardproxy COMMAND --help` says more.
"""
_SERVE = """\
Guards one OpenAI-compatible endpoint: reads every prompt and every completion, and applies the
policy to them. Clients use http://HOST:PORT/v1 as their base URL and keep sending their own key,
which goes to the upstream and nowhere else.
"""
_SERVE_EPILOG = f"""\
Each of these can also be written in a file (--config; YAML or TOML, e.g. `max_body: 32MiB`) or as
a variable ({PREFIX}MAX_BODY=32MiB). Flags win over variables, variables over the file.
Sizes: 512KiB, 32MiB. Times: 250ms, 30s, 5m.
"""
_GROUPS = {
    "endpoint": "endpoint",
    "policy": "policy",
    "limits": "limits",
    "records": "what is written down",
}
_COMMANDS = {
    "serve": "guard an endpoint",
    "policy": "check, test and show policies",
    "checks": "list the checks and what they find",
    "decisions": "look up what was decided, and why",
    "bench": "measure what the proxy adds in your own set-up",
    "scan": "judge a file of texts",
    "train": "train an adapter from labelled rows",
    "export": "make a release of trained adapters",
    "data": "look at labelled rows before they are used",
    "calibrate": "fit probabilities and thresholds of adapters",
    "evaluate": "measure adapters, and write the report",
}


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(
            prog, max_help_position=34, width=min(WIDTH, max(get_terminal_size((WIDTH, 24)).columns - 2, 60))
        )


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line and whose options cannot be abbreviated."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": _Help, **keywords})

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message} (see `{self.prog} --help`)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = next((word for word in given if not word.startswith("-")), "")
        if command and command not in _COMMANDS:
            raise ConfigError(f"there is no command `{clip(command)}`{suggest(command, _COMMANDS)} (see --help)")
        parser = _parser(command)
        parsed, unknown = parser.parse_known_args(given)
        if unknown:
            raise ConfigError(_unknown(unknown[0], command))
        run: Callable[[argparse.Namespace], int] | None = getattr(parsed, "run", None)
        if run is None:
            parser.print_help()
            return 0
        return run(parsed)
    except GuardproxyError as error:
        print(f"guardproxy: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`guardproxy policy show | head`). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(command: str) -> argparse.ArgumentParser:
    """The whole parser. Only `command` is filled with the arguments that its own module brings."""
    parser = _Parser(
        prog="guardproxy",
        usage="guardproxy [-h] [--version] COMMAND ...",
        description="A guardrail proxy for OpenAI-compatible endpoints.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"guardproxy {__version__}")
    # argparse leaves as much room for the commands' names as for this word, so it is a long one.
    commands = parser.add_subparsers(metavar="COMMAND ...", title="commands", prog="guardproxy", parser_class=_Parser)
    for name, summary in _COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == "serve":
            _add_serve(sub)
        elif name == command:
            module = import_module(f"guardproxy.cli.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _unknown(word: str, command: str) -> str:
    known = [flag_name(name) for name in (CONFIG, *(name for name, _, _ in options()))] if command == "serve" else []
    shown_word = clip(word.partition("=")[0])
    return (
        f"unknown argument `{shown_word}`{suggest(shown_word, known)} (see `{f'guardproxy {command}'.strip()} --help`)"
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.usage = "guardproxy serve --upstream URL [OPTIONS]"
    parser.description, parser.epilog = _SERVE, _SERVE_EPILOG
    groups = {key: parser.add_argument_group(title) for key, title in _GROUPS.items()}
    groups["endpoint"].add_argument(
        "--config", metavar="FILE", default=argparse.SUPPRESS, help="read settings from this file (default: none)"
    )
    for name, option, default in options():
        keywords: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS}
        keywords["help"] = f"{option.help} (default: {shown(name, option, default)})".replace("%", "%%")
        if isinstance(default, bool):
            keywords["action"] = argparse.BooleanOptionalAction if default else "store_true"
        else:
            keywords["metavar"] = option.metavar
        groups[option.group].add_argument(flag_name(name), **keywords)


def _serve(parsed: argparse.Namespace) -> int:
    names = {CONFIG, *(name for name, _, _ in options())}
    flags = {name: value for name, value in vars(parsed).items() if name in names}
    settings = Settings.load(flags, os.environ)
    if not settings.upstream:
        raise ConfigError(
            "no upstream: say which endpoint to guard, with --upstream https://api.openai.com/v1 "
            f"or {PREFIX}UPSTREAM, or `upstream:` in the file of --config"
        )
    run: Callable[[Settings], int] = import_module("guardproxy.cli.serve").run
    return run(settings)


if __name__ == "__main__":
    sys.exit(main())
