"""The command line: one function per command. Wrong use: one line on stderr, exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from app.config.settings import OPTIONS, Option, SettingsError, app_settings, bench_settings, default
from app.environment import check_device, devices, prepare
from precond.errors import UsageError, in_one_line

WRONG_USE = 2
INTERRUPTED = 130
COMMANDS = {
    "demo": "open a window and stir two fluids",
    "record": "run without a window and write timings, settings and a picture to a directory",
    "bench": "compare the preconditioners on the benchmark problems",
    "spectra": "compute the eigenvalues that each preconditioner leaves, and its convergence, on two frames",
    "report": "write RESULTS.md and its figures from the results of bench, spectra and ablate",
    "train": "train a learned preconditioner as a YAML file says",
    "ablate": "train the variants of a learned preconditioner that a YAML file names and tabulate them",
    "list": "show the scenes, preconditioners and devices that can be named",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser; only the flags that were given end up in its namespace."""
    parser = _Parser(
        prog="htp-fluid",
        description="Two fluids in a box, with a pressure solve whose preconditioner you can switch.",
        epilog="Every flag of demo, record and bench can also stand in a YAML file named with --settings: "
        "`contrast: 50` for `--contrast 50`. Flags win over the file, the file over the scene.",
    )
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar=" | ".join(COMMANDS),
    )
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name in OPTIONS:
            command.add_argument(
                "--settings",
                metavar="FILE",
                default=argparse.SUPPRESS,
                help="YAML file with any of these options",
            )
        for option in OPTIONS.get(name, []):
            _add(command, name, option)
    spectra = commands.choices["spectra"]
    spectra.add_argument("--out", metavar="FILE", required=True, help="the JSON file to write")
    spectra.add_argument(
        "--cells", metavar="N", type=int, default=1024, help="cells of the frames (default: 1024)"
    )
    report = commands.choices["report"]
    report.add_argument(
        "--data",
        metavar="DIR",
        default=None,
        help="where the JSON files are (default: assets/reference of the project)",
    )
    report.add_argument(
        "--out",
        metavar="DIR",
        default=".",
        help="where RESULTS.md and assets/figures go (default: the current folder)",
    )
    suites = commands.choices["bench"].add_mutually_exclusive_group()
    suites.add_argument(
        "--suite",
        metavar="NAME|FILE",
        default=argparse.SUPPRESS,
        help="quick, full or your own YAML file of runs, all into the directory of --out",
    )
    suites.add_argument(
        "--quick",
        dest="suite",
        action="store_const",
        const="quick",
        default=argparse.SUPPRESS,
        help="short for --suite quick: two minutes at the most",
    )
    training = commands.choices["train"]
    training.add_argument(
        "config", metavar="FILE", help="YAML file with model, training, data; a model card is one"
    )
    training.add_argument(
        "--out",
        metavar="PATH",
        default=None,
        help="where the weights go, without ending (default: runs/FILE)",
    )
    study = commands.choices["ablate"]
    study.add_argument(
        "study",
        metavar="FILE",
        help="YAML file of the study; of the JSON file of one, only the table is shown",
    )
    study.add_argument(
        "--out",
        metavar="DIR",
        default=None,
        help="where the results go and are looked for (default: runs/ablation-FILE)",
    )
    return parser


def _add(parser: argparse.ArgumentParser, command: str, option: Option) -> None:
    value = default(command, option.name)
    is_switch = isinstance(value, bool)
    if option.name == "grid":
        value = "x".join(map(str, value))
    elif option.several:
        value = " ".join(map(str, value))
    elif isinstance(value, float):
        value = f"{value:.4g}"
    shown = "" if is_switch or value in (None, "") else f" (default: {value})"
    arguments: dict[str, Any] = {
        "dest": option.name,
        "default": argparse.SUPPRESS,
        "help": option.help + shown,
    }
    if is_switch:
        arguments["action"] = argparse.BooleanOptionalAction
    else:
        arguments |= {"type": _typed(option), "metavar": option.metavar}
    if option.several:
        arguments["nargs"] = "+"
    parser.add_argument(option.flag, **arguments)


def _typed(option: Option) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return option.read(text)
        except SettingsError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 failed, 2 wrong use, 130 interrupted."""
    prepare()
    try:
        flags = vars(build_parser().parse_args(argv))
    except SystemExit as stop:
        return int(stop.code or 0)
    command = flags.pop("command")
    try:
        return _RUN[command](flags)
    except BrokenPipeError:  # the reader of a pipe, like `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"htp-fluid {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except UsageError as error:
        print(f"htp-fluid {command}: {in_one_line(error)}", file=sys.stderr)
        return WRONG_USE


def _demo(flags: dict[str, Any]) -> int:
    settings = app_settings("demo", flags)
    from app.engine import Engine

    engine = Engine.with_substitute(settings)
    try:
        from app.viewer import run_demo
    except ImportError as error:
        print(f"htp-fluid demo: no window here ({error}); use `htp-fluid record`", file=sys.stderr)
        return WRONG_USE
    ended = "the window ended unexpectedly"
    try:
        code = run_demo(engine, settings.frames)
        ended = "completed"
        return code
    finally:
        engine.close(ended)


def _record(flags: dict[str, Any]) -> int:
    settings = app_settings("record", flags)
    from app.recording.recorder import record

    return record(settings)


def _bench(flags: dict[str, Any]) -> int:
    if "suite" in flags:
        others = [name for name in flags if name not in ("suite", "out")]
        if others:
            raise SettingsError(f"--suite takes only --out beside it; {others[0]} is for its file")
        from app.bench.suite import run_suite

        return run_suite(flags["suite"], flags.get("out"))
    settings = bench_settings(flags)
    check_device(settings.device)
    from app.bench.run import bench

    return bench(settings)


def _spectra(flags: dict[str, Any]) -> int:
    from app.commands.spectra import spectra

    return spectra(flags["out"], flags["cells"])


def _report(flags: dict[str, Any]) -> int:
    from app.report.report import report

    return report(flags["data"], flags["out"])


def _train(flags: dict[str, Any]) -> int:
    from app.commands.train import train

    return train(flags["config"], flags["out"])


def _ablate(flags: dict[str, Any]) -> int:
    from app.commands.ablate import ablate

    return ablate(flags["study"], flags["out"])


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


_RUN = {
    "demo": _demo,
    "record": _record,
    "bench": _bench,
    "spectra": _spectra,
    "report": _report,
    "train": _train,
    "ablate": _ablate,
    "list": _list,
}
