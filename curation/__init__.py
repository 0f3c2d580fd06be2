"""What a person does with a pile of images: embed, fine-tune, search, mark, export.

    from curation import EmbeddingSet, Pool, Session, embed, read_crops

Names are resolved on first use, so that what needs TensorFlow is loaded by those alone
who use it.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Classes": "curation.classes",
    "EmbedConfig": "curation.config",
    "EmbeddingSet": "data.embeddings",
    "EncoderConfig": "simclr_tf2.config",
    "FinetuneConfig": "curation.config",
    "Pool": "curation.pool",
    "Recipe": "curation.config",
    "Session": "curation.session",
    "ObjectiveConfig": "simclr_tf2.config",
    "SimulatedAnnotator": "curation.simulation",
    "TrainerConfig": "simclr_tf2.config",
    "embed": "curation.embedding",
    "export": "curation.exporting",
    "finetune": "curation.finetuning",
    "read_crops": "curation.crops",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'curation' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
