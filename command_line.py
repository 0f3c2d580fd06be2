"""What the six scripts share: parsing with flags of their own, `--help` on one screen,
`--config`, errors in one line, and answers to calls of version 0.5.0.

A script's flags, the settings of `--config`, presets and a run's config.json share
their names. A flag that is given wins over config, config over preset, preset over
default.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import io
import logging
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from absl import flags

from curation.config import (
    RECIPES,
    DeviceConfig,
    flatten,
    overlay,
    read_config,
    recipe_settings,
)
from curation.old_calls import translated
from data.formats.base import SourceOptions
from data.formats.registry import OLD_NAMES, READABLE, spellings
from simclr_tf2.config import PRECISIONS, EncoderConfig

Request = TypeVar("Request")
_WIDTH = 88


COMMANDS = ("embed", "finetune", "search", "evaluate", "export", "page")


def main(argv: list[str] | None = None) -> None:
    """`curate <command> ...`: the six scripts under one name, where the project is
    installed.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] in ([], ["--help"], ["-h"]):
        print("curate <command> [flags]; curate <command> --help explains its flags\n")
        for name in COMMANDS:
            doc = importlib.import_module(f"run_{name}").__doc__ or ""
            print(f"  {name:9s} {doc.splitlines()[0]}")
        return
    if words[0] not in COMMANDS:
        raise SystemExit(
            f"curate: command must be one of {', '.join(COMMANDS)}; got {words[0]!r}"
        )
    script = importlib.import_module(f"run_{words[0]}")
    script.main([f"run_{words[0]}.py", *words[1:]])


def define_common(values: flags.FlagValues, *, embeddings: bool = True) -> None:
    """Flags that scripts share."""
    if embeddings:
        flags.DEFINE_string(
            "embeddings", "", "Folder of an embedding set.", flag_values=values
        )
        flags.DEFINE_string(
            "images_root",
            "",
            "Where the images are now, if the folder has moved.",
            flag_values=values,
        )
    flags.DEFINE_string(
        "where",
        "",
        "Only crops that meet this SQL condition, such as \"lighting = 'sunny'\".",
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", flag_values=values)
    flags.DEFINE_string(
        "config",
        "",
        "More settings, named above: a JSON file, or JSON: '{\"name\": value}'.",
        flag_values=values,
    )


def define_source_and_encoder(values: flags.FlagValues) -> None:
    """Flags of what is read and what embeds it."""
    flags.DEFINE_enum(
        "format",
        SourceOptions.format,
        spellings(READABLE),
        "What data is; auto tells by name and layout.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "variant",
        SourceOptions.variant,
        "CropAndWeed: which classes, a predefined variant or one of the data set's "
        "own.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "tiles",
        "",
        "Cut photos without boxes into tiles of so many pixels, such as 512, or 512,64 "
        "for an overlap.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "recording",
        "",
        "What was recorded together, so that splits don't part it: folder, date "
        "(EXIF), a column, or several with commas between.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "encoder",
        EncoderConfig().name,
        "Network: efficientnet_lite0 (works offline), resnet50, r50_1x_sk0, "
        "keras:NAME, kerashub:PRESET, NET.keras, saved_model.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weights",
        EncoderConfig().weights,
        "'imagenet', 'random', a file such as runs/a/encoder.weights.h5, or a "
        "SavedModel: folder, gs:// or https://.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "recipe",
        "fast",
        list(RECIPES),
        "How a crop becomes a vector: fast is the network's stages, weighted by plant "
        "pixels; best that of four orientations and more pixels, at six times the "
        "cost; plain the last layer.",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "mixed_precision",
        DeviceConfig.mixed_precision,
        PRECISIONS,
        "Arithmetic; auto trains in bfloat16 on TPUs and new GPUs.",
        flag_values=values,
    )


def configured(
    request: Request,
    values: flags.FlagValues,
    presets: Mapping[str, Any] | None = None,
) -> Request:
    """The request that a command line states.

    Args:
        request: with its defaults.
        values: flags, parsed; those that are no settings are left alone by the name
            `config`, `preset` and `recipe`.
        presets: `request.config` by name, where there is a flag `preset`.
    """
    if presets is not None and values.preset:
        preset: Any = presets[values.preset]
        request = dataclasses.replace(request, config=preset)  # type: ignore[type-var]
    settings = read_config(values.config) if values.config else {}
    if "recipe" in settings:
        request = _with_recipe(request, settings.pop("recipe"))
    request = overlay(request, settings, "config")
    if "recipe" in values and values["recipe"].present:
        request = _with_recipe(request, values.recipe)
    given = {
        name: values[name].value
        for name in values
        if values[name].present and name not in ("config", "preset", "recipe")
    }
    return overlay(request, given, "the command line")


def _with_recipe(request: Request, recipe: Any) -> Request:
    known = recipe_settings(recipe)
    if "embed_size" in flatten(request):  # image_size is that of training there
        del known["image_size"]
    return overlay(request, known, "recipe")


def run(
    doc: str,
    values: flags.FlagValues,
    call: Callable[[], None],
    argv: list[str] | None = None,
) -> None:
    """Parses the command line and makes the call.

    Args:
        doc: the script's docstring, which begins `--help`.
        values: its flags.
        call: what to do; its ValueError, OSError and RuntimeError are for the user.
        argv: the command line; default: this process's.
    """
    argv = sys.argv if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        # A terminal of Windows that lacks a letter must not cost the results.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in values:  # a second call in one process begins anew
        values[name].unparse()
    script = os.path.basename(argv[0])
    if any(word in ("--help", "-help", "-h", "--helpfull") for word in argv[1:]):
        print(help_text(doc, values))
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    for name in ("curation", "data", "simclr_tf2"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        rest = values(argv)
        if len(rest) > 1:
            raise ValueError(f"unexpected arguments: {' '.join(rest[1:])}")
        call()
    except flags.UnrecognizedFlagError as error:
        raise SystemExit(f"{script}: {_unknown(script, error, argv, values)}") from None
    except (flags.Error, ValueError, OSError, RuntimeError) as error:
        raise SystemExit(f"{script}: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(f"{script}: interrupted") from None


def _unknown(
    script: str,
    error: flags.UnrecognizedFlagError,
    argv: list[str],
    values: flags.FlagValues,
) -> str:
    today = translated(script, argv[1:])
    if today:
        return f"this call is of version 0.5.0. Today it is\n\n{today}\n"
    name = str(error.flagname)
    near = difflib.get_close_matches(name, list(values), 3)
    hint = f"; close to it: {', '.join(f'--{one}' for one in near)}" if near else ""
    return (
        f"there is no flag --{name}{hint}. --help lists all; what it calls settings "
        "goes into --config"
    )


def help_text(doc: str, values: flags.FlagValues) -> str:
    """The docstring and every flag, one or two lines each."""
    lines = [doc.strip(), "", "Flags:"]
    for name in values:
        flag = values[name]
        shown = f"--{name}" if not flag.boolean else f"--[no]{name}"
        default = flag.default
        words = " ".join(str(flag.help).split())
        again = "; repeat this option to specify a list of values"
        words = words.replace(again, " Can be given several times.")
        if isinstance(flag, flags.EnumFlag):  # absl begins with <the|choices>:
            words = words.partition(": ")[2]
            choices = [str(choice) for choice in flag.parser.enum_values if choice]
            choices = [choice for choice in choices if choice not in OLD_NAMES]
            words += f" One of {', '.join(choices)}."
        if default not in (None, "", [], False, 0):
            words += f" Default: {default}."
        indent = 20
        head = f"  {shown:{indent - 2}s}"
        if len(shown) > indent - 4:
            head = f"  {shown}  "
        lines += textwrap.wrap(
            words,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
