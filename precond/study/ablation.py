"""An ablation study: variants that differ from a base by settings, trained from several seeds.

A study is plain values: a form, sections model and training of the base, seeds, and variants, each with a
label and the settings that differ. All train for the same number of steps on the same data. Runs are ordered
by seed, so that an interrupted study is a balanced one.

A form is a module: SECTIONS (that its studies have besides), FIXED (training settings that no variant may
change), CONDITIONS (of the test), complete (checks and completes model and training), shared (the same for
the sections that all variants share), references (rows that are not trained), budget (a sentence), run (one
run), timed (what can be measured fairly only when all have run).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precond.study import ablation_coarse_learned as ablation_nested
from precond.study import ablation_hmatrix
from precond.training.setting_checks import mapping, merged

FORMS = {"hmatrix": ablation_hmatrix, "coarse-learned": ablation_nested}
SECTIONS = ("title", "form", "seeds", "model", "training", "variants")
PARTS = ("label", "model", "training")  # of a variant


@dataclass(frozen=True)
class Variant:
    """One row of the table: ``config`` has the whole sections model and training, but for the seed."""

    name: str
    label: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """A checked study; `of` makes it. ``references`` are run with the first seed alone."""

    form: str
    title: str
    seeds: tuple[int, ...]
    variants: tuple[Variant, ...]
    references: tuple[Variant, ...]
    shared: dict[str, Any]

    @classmethod
    def of(cls, content: Any) -> Study:
        """From the plain values of a YAML file. Raises ValueError naming the section and what is wrong."""
        name = mapping(content, "the study").get("form", "hmatrix")
        if not isinstance(name, str) or name not in FORMS:
            raise ValueError(f"form: {name!r} is not one of {', '.join(FORMS)}")
        form = FORMS[name]
        mapping(content, "the study", SECTIONS + form.SECTIONS)
        base = {section: content.get(section, {}) for section in ("model", "training")}
        if "seed" in mapping(base["training"], "training"):
            raise ValueError("training: seed: give the list seeds instead")
        whole_base = form.complete(base, "")
        shared = form.shared(content)
        seeds = content.get("seeds")
        whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
        if not whole or not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds: {seeds!r} is not a list of different whole numbers from 0 on")
        references = form.references(content, whole_base)
        variants = []
        for key, own in mapping(content.get("variants"), "variants").items():
            where = f"variants: {key}: "
            if not re.fullmatch(r"[\w-]+", str(key)):
                raise ValueError(f"{where}a name is of letters, digits, - and _: files are called so")
            if key in references:
                raise ValueError(f"{where}a reference has this name")
            own = mapping(own, where[:-2], PARTS)
            for setting in form.FIXED:
                if setting in mapping(own.get("training", {}), f"{where}training"):
                    raise ValueError(f"{where}training: {setting}: is the same for all variants")
            both = {part: merged(base[part], own.get(part, {}), f"{where}{part}") for part in base}
            variants.append(Variant(str(key), str(own.get("label", key)), form.complete(both, where)))
        if not variants:
            raise ValueError("variants: wants at least one")
        untrained = tuple(Variant(label, f"{label}, untrained", own) for label, own in references.items())
        title = str(content.get("title", f"Ablation of {name}"))
        return cls(name, title, tuple(seeds), tuple(variants), untrained, shared)

    def rows(self) -> tuple[Variant, ...]:
        """What the table shows: the references, then the variants."""
        return self.references + self.variants

    def runs(self) -> list[tuple[Variant, int]]:
        """All (variant, seed), the first seed of every variant first."""
        trained = [(variant, seed) for seed in self.seeds for variant in self.variants]
        return [(reference, self.seeds[0]) for reference in self.references] + trained

    @property
    def budget(self) -> str:
        """What every variant has for its training."""
        return FORMS[self.form].budget(self.variants[0].config, self.shared)

    @property
    def conditions(self) -> str:
        """Of the test."""
        return FORMS[self.form].CONDITIONS

    def run(self, variant: Variant, seed: int, folder: Path) -> dict[str, Any]:
        """Train and test one run in ``folder``, from its checkpoint when it has one; returns its row.

        iterations: of the test problems, None for those that failed. seconds: of the steps and, where there
        are any, the validations. cpu_seconds: of the whole call, None when it went on from a checkpoint. The
        form adds more.
        """
        out = weights(variant.name, seed, folder)
        found = FORMS[self.form].run(variant.config, self.shared, seed, out)
        return {"variant": variant.name, "seed": seed, **found}

    def time(self, rows: list[dict[str, Any]], folder: Path) -> None:
        """Add to all ``rows`` what the form measures of their weights in turn. Raises ModelError."""
        configs = {variant.name: variant.config for variant in self.rows()}
        mine = [row for row in rows if row["variant"] in configs]
        runs = [(configs[row["variant"]], weights(row["variant"], row["seed"], folder)) for row in mine]
        for row, found in zip(mine, FORMS[self.form].timed(runs), strict=True):
            row.update(found)


def weights(variant: str, seed: int, folder: Path) -> Path:
    """The file that a run leaves."""
    return folder / f"{variant}-{seed}.safetensors"


def checkpoint(variant: Variant, seed: int, folder: Path) -> Path:
    """The file from which `Study.run` goes on."""
    return folder / f"{variant.name}-{seed}.checkpoint"
