"""Compiled code is kept where something can be written, whatever folders a machine has."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest

from app import environment
from app.environment import ROOT


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A file in the place of a folder: nobody can write below it, root included."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (tmp_path / "file").touch()
    return tmp_path / "file" / "folder"


@pytest.fixture
def registered(monkeypatch):
    """What is to be done at the end of the program."""
    calls = []
    monkeypatch.setattr("atexit.register", lambda call, *arguments, **_: calls.append((call, *arguments)))
    return calls


def prepare(monkeypatch, own, platform):
    """As the program starts, with these folders; returns where numba is to keep its code."""
    monkeypatch.setattr(environment, "_OWN_CACHE", own)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _name: str(platform))
    for name in ("NUMBA_CACHE_DIR", "HTP_FLUID_CACHE_REMOVED_BY"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(environment, "_program", False)
    environment.prepare(program=True)
    return os.environ.get("NUMBA_CACHE_DIR")


def test_code_stays_beside_its_source_where_it_can(monkeypatch, tmp_path, nowhere, capsys):
    assert prepare(monkeypatch, tmp_path / "own", nowhere) is None
    assert not capsys.readouterr().err


def test_the_platforms_cache_comes_next(monkeypatch, tmp_path, nowhere, registered, capsys):
    assert prepare(monkeypatch, nowhere, tmp_path) == str(tmp_path / "numba")
    assert not registered
    assert not capsys.readouterr().err


@pytest.mark.parametrize("relative", [False, True])
def test_a_temporary_directory_comes_last_and_is_removed(monkeypatch, nowhere, registered, capsys, relative):
    found = prepare(monkeypatch, nowhere, "relative" if relative else nowhere)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert found in said
    assert ("no home directory" if relative else "Not a directory") in said
    environment.prepare(program=True)  # begun anew: the same process, its environment kept
    assert os.environ["NUMBA_CACHE_DIR"] == found
    assert not capsys.readouterr().err
    assert len(registered) == 2
    for remove, *arguments in registered:
        remove(*arguments, ignore_errors=True)
    assert not os.path.exists(found)


def test_a_machine_without_any_folder_is_told_once(monkeypatch, nowhere, capsys):
    def nothing(**_options):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", nothing)
    assert prepare(monkeypatch, nowhere, nowhere) is None
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_of_the_users_stays(monkeypatch, nowhere):
    monkeypatch.setattr(environment, "_OWN_CACHE", nowhere)
    monkeypatch.setattr(environment, "_program", False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "mine")
    environment.prepare(program=True)
    assert os.environ["NUMBA_CACHE_DIR"] == "mine"


def test_nothing_is_looked_for_unless_the_program_starts(monkeypatch, nowhere):
    monkeypatch.setattr(environment, "_OWN_CACHE", nowhere)
    monkeypatch.setattr(environment, "_program", False)
    environment.prepare()
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_numba_keeps_its_code_there(tmp_path, nowhere):
    """In a process of its own: numba reads the environment when it is imported."""
    code = f"""
from pathlib import Path
from app import environment
environment._OWN_CACHE = Path({str(nowhere)!r})
environment.prepare(program=True)
from sim.host.interface import strip_fraction
strip_fraction(1.0, 1.0, 1.0)
"""
    options = {"env": {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}, "cwd": ROOT}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert any("strip_fraction" in path.name for path in Path(tmp_path).rglob("*.nbc"))


def test_taichis_cache_does_likewise(monkeypatch, tmp_path, nowhere, registered, capsys):
    runtime = pytest.importorskip("sim.device.runtime")
    kept = runtime._kernel_cache.__wrapped__
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _name: str(tmp_path))
    assert kept() == tmp_path / "taichi"
    assert not registered
    assert not capsys.readouterr().err
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda _name: str(nowhere))
    spare = kept()
    assert spare.is_dir()
    assert str(spare) in capsys.readouterr().err
    assert registered == [(runtime._discard, spare)]
    spare.rmdir()
