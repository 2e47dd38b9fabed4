"""Weights that are missing, damaged or of another model: commands refuse in one line, the window starts."""

import hashlib
import shutil

import pytest
import yaml
from safetensors.torch import load_file, save_file

from app.cli import main
from app.config.settings import app_settings
from app.engine import Engine
from app.viewer.session import Session
from precond import PreconditionerError, registered_preconditioners
from precond.learned import MODELS

DAMAGES = {
    "no weights": "weights",
    "no card": "card",
    "cut short": "damaged",
    "one bit": "does not match",
    "another shape": "configuration wants",
    "card of nonsense": "builds no model",
}
FILES = {"coarse-learned": "coarse-learned", "hmatrix": "hmatrix"}


def damage(folder, name, kind):
    """Harm the weights of preconditioner ``name`` in ``folder``."""
    weights = folder / f"{FILES[name]}.safetensors"
    card = weights.with_suffix(".yaml")
    if kind == "no weights":
        weights.unlink()
    elif kind == "no card":
        card.unlink()
    elif kind == "cut short":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "one bit":
        data = bytearray(weights.read_bytes())
        data[-3] ^= 1
        weights.write_bytes(data)
    else:
        values = yaml.safe_load(card.read_text(encoding="utf-8"))
        if kind == "another shape":
            tensors = load_file(weights)
            first = next(key for key in tensors if tensors[key].ndim == 2)
            tensors[first] = tensors[first][:, :-1].contiguous()
            save_file(tensors, weights)
            values["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        else:
            part, key = ("trunk", "heads") if name == "hmatrix" else (None, "width")
            (values["model"][part] if part else values["model"])[key] = 0
        card.write_text(yaml.safe_dump(values), encoding="utf-8")


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder with copies of the shipped weights, in which the program looks for them."""
    folder = tmp_path / "models"
    folder.mkdir()
    for stem in FILES.values():
        for path in MODELS.glob(f"{stem}.*"):
            shutil.copy(path, folder)
    monkeypatch.setattr("precond.registry.MODELS", folder)
    monkeypatch.setattr("precond.learned.weights.MODELS", folder)
    for name in ("coarse_learned", "hmatrix"):
        path = folder / f"{FILES[name.replace('_', '-')]}.safetensors"
        monkeypatch.setattr(f"precond.learned.{name}.DEFAULT_MODEL", path)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_record_and_bench_refuse_in_one_line(name, kind, models, tmp_path, capsys):
    damage(models, name, kind)
    for command in (
        f"record --grid 32x32 --frames 1 --precond {name}",
        f"bench --sizes 1024 --frames 1 --preconds jacobi {name}",
    ):
        assert main(command.split()) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1, captured.err
        assert DAMAGES[kind] in captured.err
        assert name in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_an_engine_for_the_window_starts_with_a_classical_one(name, kind, models):
    damage(models, name, kind)
    settings = app_settings({"grid": (32, 16), "preconditioner": name})
    session = Session(Engine.with_substitute(settings))
    engine = session.engine
    assert engine.step().preconditioner == "multigrid"
    assert (engine.last.outcome, engine.last.fallback) == ("converged", False)
    for text in (session.message.text, session.notice):
        assert name in text
        assert "multigrid" in text
        assert DAMAGES[kind] in text
        assert "\n" not in text
    assert {"multigrid", "jacobi", "none"} <= session.available
    assert session.preconditioners.keys() == registered_preconditioners().keys()
    session.change("scene", "falling-drop")
    assert engine.settings.simulation.preconditioner == "multigrid"
    session.change("preconditioner", name)
    assert session.message.error
    assert DAMAGES[kind] in session.message.text
    assert session.notice
    assert engine.step().preconditioner == "multigrid"
    session.change("preconditioner", "jacobi")
    assert (session.notice, session.message) == ("", None)


def test_weights_damaged_while_it_runs_leave_the_old_ones_at_work(models):
    session = Session(Engine.with_substitute(app_settings({"grid": (32, 16)})))
    session.change("preconditioner", "coarse-learned")
    damage(models, "coarse-learned", "one bit")
    session.change("preconditioner", "coarse-learned")
    assert session.message.error
    assert session.engine.step().preconditioner == "coarse-learned"


def test_only_unusable_ones_are_replaced():
    engine = Engine.with_substitute(app_settings({"grid": (32, 16), "preconditioner": "coarse-learned"}))
    assert engine.notice == ""
    assert engine.step().preconditioner == "coarse-learned"
    with pytest.raises(PreconditionerError, match="magic"):
        Engine.with_substitute(app_settings({"preconditioner": "magic"}))


def test_the_window_says_it_and_offers_the_others(drive, models):
    damage(models, "coarse-learned", "one bit")

    def test(ctx, window):
        session = window.session
        ctx.yield_(3)
        assert session.engine.last.preconditioner == "multigrid"
        assert "does not match its model card" in session.message.text
        ctx.set_ref("Controls")
        ctx.combo_click("##preconditioner/###jacobi")
        ctx.yield_(2)
        assert session.engine.last.preconditioner == "jacobi"
        assert session.message is None
        ctx.combo_click("##preconditioner/###coarse-learned")
        ctx.yield_(2)
        assert "does not match its model card" in session.message.text
        assert session.engine.last.preconditioner == "jacobi"

    drive(test, preconditioner="coarse-learned")


def test_demo_starts(models, display, monkeypatch, capsys):  # noqa: ARG001
    damage(models, "coarse-learned", "no card")
    command = "demo --grid 32x16 --frames 3 --precond coarse-learned"
    assert main(command.split()) == 0
    assert capsys.readouterr().err == ""
