"""The command line: one function per command. Wrong use: one line on stderr, exit code 2."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from app.bench.settings import BenchSettings
from app.config.flags import add_flags, flag
from app.config.settings import AppSettings, RunOptions, app_settings, merged
from app.environment import check_device, devices, prepare
from precond.config import Settings, read_yaml
from precond.errors import UsageError, in_one_line

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130
WATCHED = "auto"  # preconditioner of `demo` on a CPU; a `record` without one is to be repeatable
OPENING = "waterfall"  # scene of `demo`: it moves by itself and never comes to rest
Command = Callable[[dict[str, Any]], int]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace(f"argument {' | '.join(COMMANDS)}: invalid choice:", "unknown command")
        self.exit(WRONG_USE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser; of demo, record and bench only the flags that are given end up in its namespace."""
    parser = _Parser(
        prog="htp-fluid",
        description="Two fluids in a box, with a pressure solve whose preconditioner you can switch.",
        epilog="Every flag of demo, record and bench can also stand in a YAML file named with --settings: "
        "`contrast: 50` for `--contrast 50`. Flags win over the file, the file over the scene.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=" | ".join(COMMANDS))
    for name, (_, summary, options) in COMMANDS.items():
        about = {"help": summary, "description": f"{summary[0].upper()}{summary[1:]}."}
        command = commands.add_parser(name, **about, argument_default=argparse.SUPPRESS)
        if isinstance(options, dict):
            for argument, how in options.items():
                first = how.get("default")
                first = first[0] if isinstance(first, list) else first
                kind = {} if "action" in how else {"type": int if isinstance(first, int) else str}
                command.add_argument(argument, **kind, **how)
        else:
            add_flags(command, options)
    suites = commands.choices["bench"].add_mutually_exclusive_group()
    text = "quick, full or your own YAML file of runs, all into the directory of --out"
    suites.add_argument("--suite", metavar="NAME|FILE", help=text)
    text = "short for --suite quick: two minutes at the most"
    suites.add_argument("--quick", dest="suite", action="store_const", const="quick", help=text)
    return parser


def open_streams() -> None:
    """Make standard output and error usable: what is closed or missing, as in services and pythonw, goes
    nowhere, and letters that a terminal does not have are written as escapes.
    """
    for number in range(3):  # or the next file that is opened gets the number, and what C code prints
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for all of the run
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 failed, 2 wrong use, 130 interrupted."""
    open_streams()
    prepare(program=argv is None)
    program = "htp-fluid"
    try:
        try:
            flags = vars(build_parser().parse_args(argv))
        except SystemExit as stop:  # after --help, or after a complaint
            code = int(stop.code or 0)
        else:
            command = flags.pop("command")
            program = f"{program} {command}"
            code = COMMANDS[command][0](flags)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _ended(program, "interrupted", INTERRUPTED)
    except UsageError as error:
        return _ended(program, in_one_line(error), WRONG_USE)
    except OSError as error:
        with contextlib.suppress(OSError):  # what is left in the buffer would fail again at the very end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # the reader of a pipe, like `head`, has seen enough
            return 0
        where = f"{error.filename}: " if error.filename else ""
        return _ended(program, f"{where}{error.strerror or in_one_line(error)}", FAILED)


def _ended(program: str, why: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{program}: {why}", file=sys.stderr)
    return code


def _demo(flags: dict[str, Any]) -> int:
    settings = app_settings(flags)
    for name in ("replay", "seconds"):
        if getattr(settings, name):
            raise UsageError(f"--{name} is for `htp-fluid record`")
    _check_load(settings)
    if "scene" not in settings.given:
        settings = app_settings({**flags, "scene": OPENING})
    if "preconditioner" not in settings.given and settings.simulation.device == "cpu":
        settings.simulation.preconditioner = settings.given["preconditioner"] = WATCHED
    from app.engine import Engine

    engine = Engine.with_substitute(settings)
    if settings.load:
        engine.load(settings.load, settings.given)
    try:
        from app.viewer import run_demo
    except ImportError as error:
        raise UsageError(f"no window here ({error}); use `htp-fluid record`") from None
    ended = "the window ended unexpectedly"
    try:
        code = run_demo(engine, settings.frames)
        ended = "completed"
        return code
    finally:
        engine.close(ended)


def _check_load(settings: AppSettings) -> None:
    """Raise UsageError for what cannot stand beside a state that is loaded."""
    for name in ("scene", "grid", "seed"):
        if settings.load and name in settings.given:
            raise UsageError(f"--{name}: not with --load, whose state has its own {name}")
    if settings.load and settings.replay:
        raise UsageError("--load: not with --replay, which begins where the recording did")


def _record(flags: dict[str, Any]) -> int:
    settings = app_settings(flags)
    _check_load(settings)
    from app.recording.recorder import record

    return record(settings)


def _bench(flags: dict[str, Any]) -> int:
    if "suite" in flags:
        others = [name for name in flags if name not in ("suite", "out")]
        if others:
            suite = "--quick (or --suite quick)" if flags["suite"] == "quick" else "--suite"
            raise UsageError(f"{suite} takes only --out beside it; leave out {flag(others[0])}")
        from app.bench.run import run_suite

        return run_suite(flags["suite"], flags.get("out"))
    settings = merged(BenchSettings, flags)
    check_device(settings.device)
    from app.bench.run import bench

    return bench(settings)


def _list(_flags: dict[str, Any]) -> int:
    from precond import registered_preconditioners
    from sim.scenes import available_scenes, load_scene

    scenes = {name: load_scene(name) for name in available_scenes()}
    tables = {
        "scenes": {name: f"{scene.title}: {scene.description}" for name, scene in scenes.items()},
        "preconditioners": registered_preconditioners(),
        "devices": devices(),
    }
    for title, rows in tables.items():
        print(title)
        width = max(map(len, rows), default=0)
        for name, text in rows.items():
            print(f"  {name:<{width}}  {' '.join(text.split())}")
    return 0


def _elsewhere(place: str, flags: dict[str, Any]) -> int:
    """Run the function at ``place``, "module:function", which takes its flags as arguments."""
    module, function = place.split(":")
    return getattr(importlib.import_module(module), function)(**flags)


HERE = {
    "demo": (_demo, RunOptions),
    "record": (_record, RunOptions),
    "bench": (_bench, BenchSettings),
    "list": (_list, {}),
}
# what a command does, what --help says of it, and its options: a model, or what argparse is to know of each
COMMANDS: dict[str, tuple[Command, str, type[Settings] | dict[str, dict[str, Any]]]] = {}
for _name, _of in read_yaml(Path(__file__).parent / "config" / "commands.yaml").items():
    _function, _options = HERE.get(_name) or (partial(_elsewhere, _of["function"]), _of["arguments"])
    COMMANDS[_name] = (_function, _of["summary"], _options)
