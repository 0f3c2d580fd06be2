"""Flags, --config and presets, and calls of version 0.5.0."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import command_line
import run_embed
import run_evaluate
import run_export
import run_finetune
import run_page
import run_search
from curation.config import (
    RECIPES,
    EmbedRequest,
    FinetuneConfig,
    FinetuneRequest,
    Recipe,
    flatten,
    overlay,
    read_config,
)
from curation.old_calls import _OLD_FINETUNE, _OLD_SEARCH, translated
from curation.presets import PRESETS
from simclr_tf2 import objectives
from simclr_tf2.config import OBJECTIVES
from tests.conftest import FILES_OF_0_5_0, failure

ROOT = Path(__file__).parent.parent


def parsed(arguments, script=run_finetune):
    for name in script.FLAGS:
        script.FLAGS[name].unparse()
    script.FLAGS(["script", *arguments])
    return script.FLAGS


def test_a_flag_wins_over_config_config_over_preset_and_preset_over_default(tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"epochs": 7, "temperature": 0.3, "blur_prob": 0.25}))
    given = ["--preset=cifar10_pretrain", f"--config={path}", "--epochs=2"]
    request = command_line.configured(FinetuneRequest(), parsed(given), PRESETS)
    config = request.config
    assert config.training.epochs == 2
    assert config.learning.temperature == 0.3
    assert config.learning.augment.blur_prob == 0.25
    assert config.training.optimizer == "lars"  # of the preset
    assert config.training.micro_batch == 0  # of nothing
    inline = ['--config={"epochs": 3}']
    request = command_line.configured(FinetuneRequest(), parsed(inline), PRESETS)
    assert request.config.training.epochs == 3


def test_a_recipe_is_a_preset_of_embedding():
    def embedding(*given):
        flags = parsed([*given], run_embed)
        return command_line.configured(EmbedRequest(), flags).config.recipe

    assert embedding() == RECIPES["fast"] == Recipe()
    assert embedding("--recipe=best") == RECIPES["best"]
    assert embedding('--config={"recipe": "best"}') == RECIPES["best"]
    assert embedding("--recipe=best", "--image_size=224").image_size == 224
    own = embedding('--config={"recipe": "best", "orientations": 2}')
    assert (own.orientations, own.image_size, own.name) == (2, 160, "own")
    # A flag counts more than config, also where that is a whole run's.
    assert embedding("--recipe=best", '--config={"orientations": 2}').name == "best"
    for wrong in ("", None, "x", 3):
        with pytest.raises(ValueError, match="recipe must be one of fast, best, plain"):
            embedding(f"--config={json.dumps({'recipe': wrong})}")
    # The word of version 0.8.0 and before, which meant the mean of one output.
    old = embedding('--config={"endpoint": "avg_pool"}')
    assert old.read == ("avg_pool", "mean", 1)


def test_a_fine_tuned_network_sees_larger_crops_than_in_training():
    def sizes(*given):
        request = command_line.configured(FinetuneRequest(), parsed([*given]), PRESETS)
        recipe = request.config.embedding().recipe
        return request.config.learning.augment.image_size, recipe.image_size

    assert sizes() == (96, 128)
    assert sizes("--recipe=best") == (96, 160)
    assert sizes("--recipe=best", "--embed_size=96") == (96, 96)
    assert sizes("--preset=cifar10_pretrain") == (32, 32)
    for preset in PRESETS.values():  # the papers know the last layer alone
        assert preset.embedding().recipe.read == RECIPES["plain"].read
    assert sizes("--image_size=224") == (224, 288)


def test_a_runs_own_config_is_a_config(tmp_path):
    """Also one of version 0.5.0, in its words."""
    stated = read_config(str(FILES_OF_0_5_0 / "run" / "config.json"))
    request = overlay(FinetuneRequest(), stated, "config")
    assert request.config.encoder.name == "tiny"
    assert request.config.learning.head.hidden == 8
    assert request.config.learning.augment.color_jitter_strength == stated["jitter"]
    assert request.source.keep_unlabeled is True
    assert request.config.recording_batches is True
    again = overlay(FinetuneRequest(), flatten(request), "config")
    assert again == request


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "config has no setting 'epoch'; close to it: epochs"),
        ({"epochs": "3"}, "epochs must be of type int; got '3'"),
        ({"epochs": True}, "epochs must be of type int; got True"),
        ({"epochs": -2}, "epochs must be >= 0; got -2"),
        ({"blur_prob": 2}, r"blur_prob must be in \[0, 1\]; got 2"),
        ({"optimizer": "sgd"}, "optimizer must be one of adamw, lars, momentum, adam"),
        ({"fill": "white"}, "fill must be one of reflect, gray; got 'white'"),
    ],
)
def test_settings_are_checked_before_work_starts(settings, message):
    with pytest.raises(ValueError, match=message):
        overlay(FinetuneRequest(), settings, "config")


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"config must be a JSON file, or JSON that"):
        read_config(str(tmp_path / "none.json"))
    with pytest.raises(ValueError, match=r"config must be JSON; '.\"a\":' isn't"):
        read_config('{"a":')
    (tmp_path / "list.json").write_text("[1]")
    with pytest.raises(ValueError, match="config must be a JSON object of settings"):
        read_config(str(tmp_path / "list.json"))


@pytest.mark.parametrize(
    ("script", "request_"),
    [
        (run_embed, EmbedRequest()),
        (run_finetune, FinetuneRequest()),
        (run_search, run_search.SearchRequest()),
        (run_evaluate, run_evaluate.EvaluateRequest()),
        (run_export, run_export.ExportRequest()),
        (run_page, run_page.PageRequest()),
    ],
)
def test_every_flag_is_a_setting_with_the_same_default(script, request_):
    settings = flatten(request_)
    for name in script.FLAGS:
        if name == "recipe":
            assert RECIPES[script.FLAGS[name].default] == Recipe()
        if name in ("config", "preset", "recipe"):
            continue
        default = script.FLAGS[name].default
        stated = settings[name]
        assert (tuple(default) if isinstance(default, list) else default) == stated, (
            name
        )


def test_objectives_are_those_of_the_configuration():
    assert tuple(objectives.OBJECTIVES) == OBJECTIVES
    assert FinetuneConfig().objective in OBJECTIVES


CALLS = {
    "run_search.py --embeddings=e --query=q --ask=n.csv --marks=m.csv --per_round=4": [
        "python run_search.py --embeddings=e --query=q --marks=m.csv --suggest=n.csv "
        "'--config={\"suggest_count\": 4}'"
    ],
    "run_search.py --embeddings e --query=q --policy boundary --ascending --marks=m": [
        "python run_search.py --embeddings=e --query=q --marks=m "
        "--query_strategy=uncertainty '--config={\"ascending\": true}'"
    ],
    "run_search.py --embeddings=e --evaluate --k=20 --split=validation": [
        "python run_evaluate.py --embeddings=e --retrieval=true --k=20 "
        "--split=validation"
    ],
    "run_search.py --embeddings=e --query=q --simulate_label=beet --transform=centre": [
        "python run_evaluate.py --embeddings=e --query=q --simulate_label=beet "
        '\'--config={"transform": "center"}\''
    ],
    "run_search.py --embeddings=e --probe=p --audit=a.csv --audit_size=150": [
        "python run_evaluate.py --embeddings=e --probe=p --audit=a.csv --size=150"
    ],
    "run_search.py --embeddings=e --probe=p --export=coco --export_to=o --class_name=b": [
        "python run_export.py --embeddings=e --probe=p --format=coco --folder=o "
        "--class_name=b"
    ],
    "run_search.py --embeddings=e --marks=m --export=yolo --export_to=o --class_name=b": [
        "python run_search.py --embeddings=e --marks=m --save_probe=o_probe",
        "python run_export.py --embeddings=e --probe=o_probe --format=yolo --folder=o "
        "--class_name=b",
    ],
    "run_search.py --embeddings=e --serve --nobrowser --port=9": [
        "python run_page.py --embeddings=e --port=9 '--config={\"browser\": false}'"
    ],
    "run_finetune.py --data=d --run_dir=r --nofrom_above --jitter=0.4 --epochs=3": [
        "python run_finetune.py --data=d --run_dir=r --epochs=3 "
        '\'--config={"rot90_flips": false, "color_jitter_strength": 0.4}\''
    ],
    "run_finetune.py --data=d --run_dir=r --epochs=0 --image_size=64 --embed_batch=8": [
        "python run_embed.py --data=d --image_size=64 --embeddings=r/embeddings "
        "'--config={\"embed_batch\": 8}'"
    ],
}


@pytest.mark.parametrize("old", CALLS)
def test_a_call_of_0_5_0_is_answered_with_the_one_of_today(old):
    script, *arguments = old.split(" ")
    assert translated(script, arguments).split("\n") == CALLS[old]
    assert CALLS[old][-1].rpartition("'")[0] in failure_text(script, arguments)


def failure_text(script, arguments):
    with pytest.raises(SystemExit) as stop:
        {"run_search.py": run_search, "run_finetune.py": run_finetune}[script].main(
            [script, *arguments]
        )
    return str(stop.value)


def test_every_translated_call_parses():
    scripts = {
        module.__name__ + ".py": module
        for module in (run_embed, run_evaluate, run_export, run_page, run_search)
    } | {"run_finetune.py": run_finetune}
    import shlex

    for lines in CALLS.values():
        for line in lines:
            _, script, *arguments = shlex.split(line)
            rest = parsed(arguments, scripts[script])
            assert isinstance(rest, flags.FlagValues)
            if rest["config"].value:
                read_config(rest["config"].value)


def test_all_93_flags_of_0_5_0_have_a_home_in_the_changelog():
    assert len(_OLD_SEARCH) + len(_OLD_FINETUNE) == 93
    text = (ROOT / "CHANGELOG.md").read_text()
    named = set(re.findall(r"`--(?:\[no\])?(\w+)", text))
    assert named >= (_OLD_SEARCH | _OLD_FINETUNE)


def test_a_flag_that_never_was_is_told_its_neighbors():
    message = failure("run_search.py", "--embedings=e")
    assert message.startswith(
        "run_search.py: there is no flag --embedings; close to it"
    )
    assert "--embeddings" in message


def test_a_terminal_that_lacks_a_letter_costs_no_results(tmp_path):
    """Output that goes to a file on Windows is cp1252."""
    code = (
        "import command_line as c; from absl import flags; v = flags.FlagValues()\n"
        "c.run('doc', v, lambda: print('řepa 甜菜', '\\udcfc'), ['run_search.py'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == rb"\u0159epa \u751c\u83dc \udcfc"
