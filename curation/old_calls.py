"""Calls of version 0.5.0 in the words of today: an old command line is answered with
the new one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from curation.config import OLD_NAMES

# Flags that are flags still, by script; all other settings go into --config.
_EMBED = {
    *("data", "encoder", "weights", "image_size", "format", "variant", "where", "seed"),
    "mixed_precision",
}
_FINETUNE = _EMBED | {
    *("run_dir", "preset", "objective", "epochs", "embed_size", "batch_size"),
    *("learning_rate", "eval_split", "strategy"),
}
_WORDS = {"centre": "center", "pulled": "anchored", "boundary": "uncertainty"}
_SWITCHES = {
    *("pool", "square", "session_batches", "online", "from_above", "sync_batch_norm"),
    *("xla", "ascending", "evaluate", "export_marked", "serve", "browser"),
}

Given = dict[str, list[str]]


def translated(script: str, arguments: Sequence[str]) -> str:
    """Today's command for a call of version 0.5.0; "" where it isn't one.

    Args:
        script: as it was called, such as run_search.py.
        arguments: of the command line.
    """
    given = _parse(arguments)
    if script == "run_finetune.py" and set(given) <= _OLD_FINETUNE:
        return _finetune(given)
    if script == "run_search.py" and set(given) <= _OLD_SEARCH:
        return _search(given)
    return ""


def _parse(arguments: Sequence[str]) -> Given:
    given: Given = {}
    words = list(arguments)
    while words:
        name, equals, value = words.pop(0).lstrip("-").partition("=")
        if not equals and name.removeprefix("no") in _SWITCHES:
            value = "false" if name.startswith("no") else "true"
            name = name.removeprefix("no")
        elif not equals and words:
            value = words.pop(0)
        given.setdefault(name, []).append(value)
    return given


def _typed(value: str) -> object:
    """A flag's text as JSON."""
    try:
        found = json.loads(value)
    except ValueError:
        return value
    return found if isinstance(found, bool | int | float) else value


def _command(script: str, flags: Mapping[str, list[str]], config: Given) -> str:
    words = ["python", script]
    for name, values in flags.items():
        words += [f"--{name}={value}" for value in values]
    if config:
        settings = {
            OLD_NAMES.get(name, name): _typed(values[-1])
            for name, values in config.items()
        }
        words.append(f"--config={json.dumps(settings)}")
    return shlex.join(words)


def _split(given: Given, flags: set[str]) -> tuple[Given, Given]:
    """What are flags still, and what goes into --config."""
    stay = {name: values for name, values in given.items() if name in flags}
    rest = {name: values for name, values in given.items() if name not in flags}
    return stay, rest


def _finetune(given: Given) -> str:
    given = dict(given)
    if given.get("epochs") != ["0"]:
        return _command("run_finetune.py", *_split(given, _FINETUNE))
    # Only embedding has a script of its own, which takes nothing of training.
    run_dir = given.pop("run_dir", ["runs/b"])[-1]
    size = given.pop("embed_size", given.get("image_size"))
    if size:
        given["image_size"] = size
    kept = (
        *("data", "encoder", "weights", "image_size", "format", "variant", "where"),
        *("seed", "mixed_precision", "pool", "boxes", "box_size", "images", "padding"),
        *("square", "fill", "endpoint", "embed_batch", "strategy", "tpu"),
    )
    given = {name: values for name, values in given.items() if name in kept}
    flags, config = _split(given, _EMBED)
    flags["embeddings"] = [f"{run_dir}/embeddings"]
    return _command("run_embed.py", flags, config)


def _words(given: Given, *names: str) -> Given:
    """Some flags, their values in today's words, under today's names."""
    renamed = {"ask": "suggest", "policy": "query_strategy", "audit_size": "size"}
    renamed |= {"export": "format", "export_to": "folder"}
    found: Given = {}
    for name in names:
        if name in given:
            values = [_WORDS.get(value, value) for value in given[name]]
            found[renamed.get(name, name)] = values
    return found


_COMMON = ("embeddings", "images_root", "where", "seed")


def _search(given: Given) -> str:
    common = _words(given, *_COMMON)
    if "serve" in given:
        common.pop("where", None)
        flags = _words(given, "sessions", "host", "port", "predictions")
        return _command("run_page.py", common | flags, _words(given, "browser"))
    if "evaluate" in given:
        flags = {"retrieval": ["true"]} | _words(given, "k", "split")
        return _command("run_evaluate.py", common | flags, {})
    if "simulate_label" in given or "simulate_where" in given:
        flags = _words(given, "query", "simulate_label", "simulate_where", "rounds")
        flags |= _words(given, "per_round", "policy", "k", "sheet")
        config = _words(given, "transform", "method")
        return _command("run_evaluate.py", common | flags, config)
    if "audit" in given:
        flags = _words(given, "probe", "audit", "audit_size", "target_precision")
        flags |= _words(given, "predictions")
        return _command("run_evaluate.py", common | flags, {})
    return _list_and_export(given, common)


def _list_and_export(given: Given, common: Given) -> str:
    names = (
        *("query", "negative", "k", "marks", "probe", "save_probe", "ask", "policy"),
        *("compare", "clusters", "count_where", "predictions", "out", "sheet"),
    )
    config = _words(given, "transform", "method", "ascending", "milvus")
    if "per_round" in given:
        config["suggest_count"] = given["per_round"]
    flags = common | _words(given, *names)
    if "export" not in given:
        return _command("run_search.py", flags, config)
    marked = {"selected": ["marked"]} if "export_marked" in given else {}
    export = _words(given, "export", "export_to", "class_name") | marked
    if "probe" in given:
        flags = common | _words(given, "probe") | export
        return _command("run_export.py", flags, {})
    # Marks become a probe first.
    probe = given.get("save_probe", [f"{given.get('export_to', ['class'])[-1]}_probe"])
    first = _command("run_search.py", flags | {"save_probe": probe}, config)
    second = _command("run_export.py", common | {"probe": probe} | export, {})
    return f"{first}\n{second}"


_OLD_SEARCH = {
    *_COMMON,
    *("query", "k", "marks", "simulate_label", "simulate_where", "count_where"),
    *("rounds", "per_round", "policy", "negative", "transform", "method", "ascending"),
    *("save_probe", "probe", "ask", "audit", "audit_size", "target_precision"),
    *("milvus", "sheet", "compare", "out", "evaluate", "split", "export"),
    *("export_to", "class_name", "export_marked", "clusters", "serve", "sessions"),
    *("host", "port", "browser", "predictions"),
}
_OLD_FINETUNE = {
    *_FINETUNE,
    *("pool", "boxes", "box_size", "images", "padding", "square", "fill", "endpoint"),
    *("session_batches", "optimizer", "learning_rate_scaling", "weight_decay"),
    *("warmup_epochs", "temperature", "head", "head_layers", "head_hidden", "online"),
    *("label_smoothing", "label_fraction", "head_layer", "train_after", "min_area"),
    *("jitter", "grey", "blur", "brightness", "from_above", "train_split"),
    *("sync_batch_norm", "tpu", "micro_batch", "xla", "embed_batch"),
    "checkpoint_minutes",
}
