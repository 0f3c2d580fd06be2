"""A run goes on only as it began: which settings decide what is computed, and which
were settled when it began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.config import (
    OLD_NAMES,
    FinetuneConfig,
    flatten,
    in_words_of_today,
    overlay,
)
from data.crop_table import CropTable
from simclr_tf2.config import AUTO, BY_CROPS, EARLY_FROZEN, NOTHING_FROZEN

_OF_RECIPE = ("endpoints", "pooling", "orientations", "embed_size")
# What a run settles when it begins, where it is left at this value.
_LEFT_OPEN = {
    "epochs": BY_CROPS,
    "batch_size": BY_CROPS,
    "mixed_precision": AUTO,
    "freeze_through_block": EARLY_FROZEN,
    "neighbors": FinetuneConfig.neighbors,
}
# What these were where a config.json doesn't state them.
_BEFORE = {
    "epochs": 12,
    "batch_size": 128,
    "mixed_precision": "float32",
    "freeze_through_block": NOTHING_FROZEN,
    "neighbors": 0,
}
_OF_PLAN = ("image_size", "warmup_epochs")  # with minutes
# What may differ when a run is resumed, since it doesn't change what is computed. Where
# the images lie is among it: the crop table's hash says whether they are the same.
_FREE = ("checkpoint_minutes", "tpu", "embed_batch", "augment_on")
# Settings that choose crops.
_OF_CROPS = ("where", "variant", "tiles", "recording", "boxes", "box_size")


def stated_settings(run_dir: Path) -> dict[str, Any] | None:
    """The config.json of a run, None where there is none."""
    stated = run_dir / "config.json"
    return json.loads(stated.read_text()) if stated.is_file() else None


def as_it_began(config: FinetuneConfig, run_dir: Path) -> FinetuneConfig:
    """The settings, with what a run in that folder settled when it began: its plan, and
    what an earlier version did by default.
    """
    began = stated_settings(run_dir)
    if began is None:
        return config
    known = _settings_of_today(began)
    then = flatten(overlay(FinetuneConfig(), known, "config.json"))
    now = flatten(config)
    kept = [name for name, value in _LEFT_OPEN.items() if now[name] == value]
    if now["minutes"] and then["minutes"] == now["minutes"] and "epochs" in kept:
        kept += _OF_PLAN
    if "endpoint" in began and config.embedding().recipe.name == "fast":
        kept += [name for name in _OF_RECIPE if name == "embed_size" or name in known]
        if config.embed_size:
            kept.remove("embed_size")
    return overlay(config, {name: then[name] for name in kept}, "config.json")


def _settings_of_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a config.json that are a run's own, by today's names."""
    default = flatten(FinetuneConfig())
    today = {
        OLD_NAMES.get(name, name): value
        for name, value in in_words_of_today(settings).items()
    }
    return _BEFORE | {name: today[name] for name in today if name in default}


def _what_matters(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that differ from their default and decide what is computed. A setting
    that is absent, such as one that didn't exist yet, is at its default.
    """
    default = flatten(FinetuneConfig())
    known = _settings_of_today(settings)
    full = flatten(overlay(FinetuneConfig(), known, "config.json"))
    weights = full["weights"]
    if weights and Path(weights).exists():
        full["weights"] = str(Path(weights).resolve())
    return {
        name: value
        for name, value in full.items()
        if value != default[name] and name not in _FREE
    }


def identity_of_run(settings: Mapping[str, Any]) -> str:
    """SHA-256 of what matters of a run's settings."""
    text = json.dumps(_what_matters(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_same_run(
    run_dir: Path,
    crops: CropTable,
    config: FinetuneConfig,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Refuses to continue a run with other settings or crops, which would mix two
    experiments in one folder.
    """
    stated, stated_crops = stated_settings(run_dir), run_dir / "crops.parquet"
    if stated is not None:
        there, here = _what_matters(stated), _what_matters(flatten(config))
        if there != here:
            default = flatten(FinetuneConfig())
            planned = there.get("minutes") != here.get("minutes")
            follows = ("epochs", "batch_size", *_OF_PLAN) if planned else ()
            changed = [
                f"{name}: {there.get(name, default[name])!r} there, "
                f"{here.get(name, default[name])!r} now"
                for name in sorted({*there, *here} - set(follows))
                if there.get(name, default[name]) != here.get(name, default[name])
            ]
            raise ValueError(
                f"run_dir {str(run_dir)!r} holds a run with other settings "
                f"({'; '.join(changed)}); choose another run_dir"
            )
    if not config.training.epochs or not stated_crops.is_file():
        return
    began = CropTable.read(stated_crops)
    # A reader may have learned to read another column since.
    if began.content_hash != crops.with_columns(began.rows.column_names).content_hash:
        known = stated or {}
        changed = [
            f"{name} is {now!r} now and was {known.get(name, '')!r}"
            for name, now in (settings or {}).items()
            if name in _OF_CROPS and now != known.get(name, "")
        ]
        if changed:
            raise ValueError(
                f"run_dir {str(run_dir)!r} holds a run on other crops: "
                f"{'; '.join(changed)}. Choose another run_dir"
            )
        raise ValueError(
            f"the images in data have changed since the run in {str(run_dir)!r} began. "
            "To embed them with its encoder, use run_embed.py "
            "--weights=<run_dir>/encoder.weights.h5; to train on them, another run_dir"
        )
