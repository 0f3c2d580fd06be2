"""The scripts as a user runs them, on a tiny network; in this process, but for what a
kill does to one.
"""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts.files import exclusive
from curation.encoders import embedder_of
from curation.pool import Pool
from data.embeddings import EmbeddingSet
from data.images import CropWindow, cut_at_most, read_image
from data.pipeline import Unreadable, embedding_batches
from probe.transforms import l2_normalize
from tests.conftest import COLORS, TINY, call, failure, noisy

ROOT = Path(__file__).parent.parent


def call_module(module, *arguments):
    """Runs `python -m module` in a process of its own."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished contrastive run on three colours of 12 photos, one of which is
    damaged.
    """
    photos = tmp_path_factory.mktemp("data") / "photos"
    for number, (name, color) in enumerate(COLORS.items()):
        (photos / name).mkdir(parents=True)
        for photo in range(12):
            noisy(color, (40, 32), 100 * number + photo).save(
                photos / name / f"{photo:02d}.png"
            )
    (photos / "red" / "11.png").write_bytes(
        (photos / "red" / "11.png").read_bytes()[:200]
    )
    (photos / "red" / "zero.jpg").touch()
    folder = photos.parent / "run"
    call(
        "run_finetune.py",
        f"--data={photos}",
        f"--run_dir={folder}",
        "--objective=contrastive",
        "--epochs=2",
        *TINY,
    )
    return folder


def test_a_run_leaves_what_the_readme_says(run_dir):
    embeddings = EmbeddingSet.load(run_dir / "embeddings", full=True)
    assert embeddings.vectors.shape == (35, 112)
    result = json.loads((run_dir / "result.json").read_text())
    assert (result["crops"], result["skipped_images"], result["steps"]) == (35, 2, 8)
    assert result["provenance"]["seed"] == 0
    assert result["provenance"]["versions"]["keras"].startswith("3.")
    skipped = json.loads((run_dir / "skipped.json").read_text())
    assert skipped["red/zero.jpg"] == "zero bytes"
    assert "damaged" in skipped["red/11.png"]
    for name in (
        "config.json",
        "metrics.jsonl",
        "checkpoints",
        "tensorboard",
        "encoder.weights.h5",
        "crops.parquet",
    ):
        assert (run_dir / name).exists(), name
    assert (
        json.loads((run_dir / "config.json").read_text())["objective"] == "contrastive"
    )


def test_the_same_command_again_changes_nothing(run_dir):
    config = json.loads((run_dir / "config.json").read_text())
    files = [
        run_dir / name
        for name in ("embeddings/embeddings.npy", "result.json", "skipped.json")
    ]
    before = [path.read_bytes() for path in files]
    output = call(
        "run_finetune.py",
        f"--run_dir={run_dir}",
        f"--data={config['data']}",
        f"--config={run_dir / 'config.json'}",
    ).stderr
    assert "is complete already" in output
    assert [path.read_bytes() for path in files] == before


def test_minutes_are_planned_with_once_and_kept(run_dir, tmp_path, monkeypatch):
    """Even if the machine has become faster since."""
    monkeypatch.setattr("curation.planning.MOST_EPOCHS", 2)
    config = json.loads((run_dir / "config.json").read_text())
    timed = ["run_finetune.py", f"--data={config['data']}", f"--run_dir={tmp_path}"]
    timed += ["--minutes=5", *TINY]
    said = call(*timed).stderr
    assert "planned for 5 minutes: 2 epochs of 4 steps at 32 px" in said
    assert "Before training: all_P@20" in said
    plan = json.loads((tmp_path / "config.json").read_text())
    assert (plan["minutes"], plan["epochs"], plan["warmup_epochs"]) == (5.0, 2, 0.5)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["steps"] == 8
    assert 0 < result["frozen"]["all_P@20"] <= result["ceiling"] < 1
    monkeypatch.setattr("curation.planning.MOST_EPOCHS", 50)
    again = call(*timed).stderr
    assert "is complete already" in again
    assert "planned for" not in again
    other = failure(*timed[:-5], "--minutes=6", *TINY)
    assert "minutes: 5.0 there, 6.0 now" in other


def test_early_layers_and_neighbors_may_be_left_to_the_run(run_dir):
    config = json.loads((run_dir / "config.json").read_text())
    stated = [config[name] for name in ("freeze_through_block", "neighbors")]
    assert stated == [-2, 5]
    assert config["mixed_precision"] == "float32"
    assert not (run_dir / "partners.npz").exists()


def test_other_settings_in_the_same_folder_are_refused(run_dir):
    again = ["run_finetune.py", f"--run_dir={run_dir}"]
    again += [f"--config={run_dir / 'config.json'}"]
    message = failure(*again, "--epochs=3")
    assert "other settings (epochs: 2 there, 3 now); choose another" in message


def test_what_does_not_matter_may_change_and_absent_settings_are_defaults(run_dir):
    """A run's identity is what it computes, not how its config.json was written."""
    path = run_dir / "config.json"
    before = path.read_text()
    config = json.loads(before)
    kept = {name: config[name] for name in ("data", "encoder", "weights", "epochs")}
    kept |= {"image_size": 32, "batch_size": 8, "jitter": 0.2, "pool": True}
    path.write_text(json.dumps(kept))  # an earlier version's, with words of its own
    again = ["run_finetune.py", f"--run_dir={run_dir}", f"--data={config['data']}"]
    slow = '--config={"checkpoint_minutes": 60, "embed_batch": 3}'
    output = call(*again, *TINY, "--epochs=2", slow).stderr
    assert "is complete already" in output
    path.write_text(before)


def test_a_run_of_a_version_before_recipes_goes_on_without_one(run_dir, tmp_path):
    config = json.loads((run_dir / "config.json").read_text())
    old = tmp_path / "run"
    begun = ["run_finetune.py", f"--run_dir={old}", f"--data={config['data']}"]
    begun += ["--epochs=1", *TINY]
    call(*begun, "--recipe=plain", "--embed_size=32")
    path = old / "config.json"
    stated = json.loads(path.read_text())
    for name in ("endpoints", "pooling", "orientations"):
        del stated[name]
    path.write_text(json.dumps({**stated, "endpoint": "", "embed_size": 0}))
    files = [old / "embeddings" / "embeddings.npy", old / "encoder.weights.h5"]
    before = [file.read_bytes() for file in files]
    for _ in range(2):
        assert "is complete already" in call(*begun).stderr
        assert [file.read_bytes() for file in files] == before
        assert not list(old.glob("embeddings.old*"))
    path.write_text(json.dumps({**stated, "endpoint": "", "embed_size": 0}))
    message = failure(*begun, "--recipe=best")
    assert "other settings" in message
    assert "orientations: 1 there, 4 now" in message
    assert "embed_size: 32 there, 64 now" in failure(*begun, "--embed_size=64")


def test_masks_are_what_a_crop_is_pooled_by(field, tmp_path):
    """Through run_embed.py, and told apart when they are corrected."""
    source = tmp_path / "field"
    shutil.copytree(field, source)
    folder = tmp_path / "embeddings"
    given = ["run_embed.py", f"--data={source}", *TINY[:3], f"--embeddings={folder}"]
    given.append('--config={"pooling": "mask"}')
    call(*given)
    made = EmbeddingSet.load(folder)
    assert made.meta["pooling"] == "mask"
    crops = np.concatenate(
        [
            batch.numpy()
            for batch, _ in embedding_batches(
                made.table, 32, 64, Unreadable(), view=CropWindow(), with_masks=True
            )
        ]
    )
    expected = embedder_of(made).embed(crops)
    np.testing.assert_allclose(made.vectors, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(embedder_of(made).embed(crops[..., :3]) - expected).max() > 0.05
    assert "holds these embeddings already" in call(*given).stderr
    mask = next((source / "labelIds").rglob("*.png"))
    Image.fromarray(np.asarray(Image.open(mask)) // 2).save(mask)
    call(*given)
    assert (tmp_path / "embeddings.old-1").is_dir()
    again = EmbeddingSet.load(folder)
    assert again.meta["encoder_hash"] == made.meta["encoder_hash"]
    assert not np.array_equal(again.vectors, made.vectors)
    mask.unlink()
    assert "crops have no mask: green pixels take its place" in call(*given).stderr


def test_a_set_says_its_recipe_and_what_recipes_take(run_dir, tmp_path):
    config = json.loads((run_dir / "config.json").read_text())
    given = ["run_embed.py", f"--data={config['data']}", *TINY[:2], "--recipe=best"]
    folder = tmp_path / "embeddings"
    given += [f"--embeddings={folder}", "--image_size=48"]
    out = call(*given).stdout
    assert "recipe best at 48 px (stages, green)" in out
    assert "(4 x 48 px); fast about" in out
    meta = json.loads((folder / "meta.json").read_text())
    assert [meta[name] for name in ("recipe", "endpoint", "pooling")] == [
        "best",
        "stage0,stage1,stage2",
        "green",
    ]
    assert (meta["orientations"], meta["image_size"], meta["width"]) == (4, 48, 112)
    again = call(*given)
    assert "holds these embeddings already" in again.stderr
    result = json.loads((run_dir / "result.json").read_text())
    assert result["recipe"]["name"] == "fast"
    assert result["recipe"]["endpoints"] == "stage0,stage1,stage2"
    assert result["recipe"]["image_size"] == 32


def test_search_by_id_by_path_and_by_an_image_from_outside(run_dir, tmp_path):
    embeddings = EmbeddingSet.load(run_dir / "embeddings")
    row = int(np.flatnonzero(embeddings.table.column("image") == "blue/03.png")[0])
    index = Pool(embeddings).similar
    mask = np.arange(len(embeddings.ids)) != row
    expected = index.search(index.vectors[row], 5, mask=mask)
    Image.open(embeddings.table.path(row)).save(tmp_path / "outside.png")
    lists = []
    for query in (
        embeddings.table.ids[row],
        "blue/03.png",
        str(embeddings.table.path(row)),
        str(tmp_path / "outside.png"),
    ):
        call(
            "run_search.py",
            f"--embeddings={run_dir / 'embeddings'}",
            f"--query={query}",
            "--k=5",
            f"--out={tmp_path / 'out.csv'}",
        )
        with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
            lists.append([line["crop_id"] for line in csv.DictReader(file)])
    assert (
        lists[0] == lists[1] == lists[2] == embeddings.table.ids[expected.rows].tolist()
    )
    assert lists[3] == [
        embeddings.table.ids[row],
        *lists[0][:4],
    ]  # from outside, so the crop itself is the best result
    facts = json.loads((tmp_path / "out.csv.json").read_text())
    assert facts["embeddings"]["encoder_hash"] == embeddings.meta["encoder_hash"]


def test_marks_make_a_probe_and_the_list_gives_the_marks_back(run_dir, tmp_path):
    embeddings = EmbeddingSet.load(run_dir / "embeddings")
    labels, ids = embeddings.table.column("label_name"), embeddings.table.ids
    marked = [
        *np.flatnonzero(labels == "green")[:4],
        *np.flatnonzero(labels == "red")[:4],
        *np.flatnonzero(labels == "blue")[:4],
    ]
    lines = [f"{ids[row]},{int(labels[row] == 'green')}" for row in marked]
    (tmp_path / "marks.csv").write_text("\n".join(["crop_id,relevant", *lines]))
    search = [
        "run_search.py",
        f"--embeddings={run_dir / 'embeddings'}",
        f"--marks={tmp_path / 'marks.csv'}",
        "--k=7",
    ]
    done = call(
        *search,
        f"--out={tmp_path / 'out.csv'}",
        f"--sheet={tmp_path / 'sheet.png'}",
        "--query=green/00.png",
    )
    assert "linear probe, 12 marks" in done.stdout
    with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
        given_back = {
            line["crop_id"]: line["relevant"]
            for line in csv.DictReader(file)
            if line["relevant"]
        }
    assert {
        crop: mark for crop, mark in given_back.items() if crop != ids[marked[0]]
    } == {
        ids[row]: str(int(labels[row] == "green")) for row in marked if row != marked[0]
    }
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 2000  # before and after, side by side


def test_a_simulated_annotator_and_retrieval(run_dir, tmp_path):
    embeddings = f"--embeddings={run_dir / 'embeddings'}"
    simulate = ["--query=red/02.png", "--simulate_label=red", "--rounds=2", "--k=3"]
    sheet = f"--sheet={tmp_path / 'sheet.png'}"
    out = call("run_evaluate.py", embeddings, *simulate, "--per_round=5", sheet).stdout
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["0", "5", "10"]
    assert "linear probe, 10 marks" in out
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.width > 2000
    # Where fewer than k are left unmarked, the same figure says over how many it is.
    small = ["--query=red/02.png", "--simulate_label=red", "--rounds=3", "--k=20"]
    out = call("run_evaluate.py", embeddings, *small, "--per_round=10").stdout
    rounds = out.splitlines()[1:5]
    assert "nan" not in out
    assert " of 14" in rounds[2]
    assert " of 4" in rounds[3]
    assert "of 4 over unmarked crops are red" in out

    out = call("run_evaluate.py", embeddings, "--retrieval", "--k=5").stdout
    assert out.splitlines()[-3].startswith("macro average")
    plain = "by plain cosine instead of the transform graph: P@5 "
    assert out.splitlines()[-1].startswith(plain)
    one = "--where=label_name <> 'red' OR image = 'red/02.png'"
    out = call("run_evaluate.py", embeddings, "--retrieval", "--k=5", one).stdout
    assert "left out, since a class of one crop finds nothing: red" in out
    assert "red     " not in out


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("search", ["--query=red/02.png", "--k=0"], "k must be in [1, 34]; got 0"),
        ("search", ["--query=red/02.png", "--k=35"], "k must be in [1, 34]; got 35"),
        (
            "search",
            ["--query=nobody"],
            "query must be a crop id of this set or the path of an image; 'nobody' is "
            "neither, and there is no file of that name",
        ),
        ("search", [], "query must be given"),
        (
            "search",
            ["--query=red/02.png", "--negative=red/02.png"],
            "query and negative must be different",
        ),
        (
            "search",
            ["--query=red/02.png", '--config={"suggest_count": 0}'],
            "suggest_count must be at least 1; got 0",
        ),
        (
            "search",
            ["--query=red/02.png", "--where=label_name = 'none'"],
            "where must leave crops",
        ),
        (
            "evaluate",
            ["--probe=x", "--audit=a.csv", "--target_precision=1.5"],
            "target_precision must be above 0 and at most 1; got 1.5",
        ),
        (
            "export",
            ["--session=.", "--folder=new"],
            "session must be the folder of one",
        ),
        (
            "search",
            ["--query=red/02.png", "--sheet=/proc/x/out.png"],
            "sheet must be a folder that can be written to",
        ),
        ("search", ["--query=red/02.png", "--compare=x"], "sheet must be given with"),
        ("search", ["--clusters=1"], "clusters must be at least 2; got 1"),
        (
            "search",
            ["--query=red/02.png", "--sheet=out.jpg"],
            "sheet must be a .png file; got 'out.jpg'",
        ),
        ("search", ["--query=x", "--probe=y"], "probe brings its query and marks"),
        (
            "search",
            ["--predictions=none.csv"],
            "predictions must be a .csv or .json file; there is no file 'none.csv'",
        ),
        (
            "evaluate",
            ["--query=red/02.png", "--simulate_label=violet", "--k=5"],
            "simulate_label must be one of blue, green, red; got 'violet'",
        ),
        (
            "evaluate",
            ["--query=red/02.png", "--simulate_label=blue", "--k=5"],
            "query must be one crop that the simulated annotator would mark as "
            "relevant "
            "('blue')",
        ),
        (
            "evaluate",
            ["--query=red/02.png", "--retrieval"],
            "retrieval takes every crop as a query and excludes query",
        ),
        (
            "evaluate",
            ["--retrieval", "--split=winter"],
            "split must be one of all, ",
        ),
        (
            "evaluate",
            [],
            "one of retrieval, simulate_label, simulate_where, audit, mistakes or",
        ),
        ("evaluate", ["--audit=a.csv"], "probe must be given with audit"),
        ("export", ["--folder=new"], "one of probe and session must be given"),
        ("export", ["--probe=x"], "folder must be given, a new one"),
        ("export", ["--probe=x", "--folder=."], "folder must be a new one; '.' exists"),
        ("export", ["--probe=x", "--folder=new"], "class_name must be given"),
        ("page", ["--port=99999"], "port must be from 0 to 65535; got 99999"),
        ("page", ["--host=no.such.host.invalid"], "host must be an address or name"),
    ],
)
def test_bad_arguments_are_named(
    run_dir, tmp_path, monkeypatch, script, arguments, message
):
    monkeypatch.chdir(tmp_path)
    embeddings = f"--embeddings={run_dir / 'embeddings'}"
    assert message in failure(f"run_{script}.py", embeddings, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_search_names_bad_files(run_dir, tmp_path):
    embeddings = f"--embeddings={run_dir / 'embeddings'}"
    (tmp_path / "marks.csv").write_text("crop_id,relevant\nstranger,1\n")
    message = failure("run_search.py", embeddings, f"--marks={tmp_path / 'marks.csv'}")
    assert "marks must name crops of this embedding set; unknown: 'stranger'" in message
    assert "lacks meta.json, embeddings.npy, crops.parquet" in failure(
        "run_search.py", f"--embeddings={tmp_path}", "--query=x"
    )


def test_finetune_names_bad_arguments(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    run = f"--run_dir={tmp_path / 'run'}"
    assert "holds no image file" in failure(
        "run_finetune.py", f"--data={tmp_path / 'empty'}", run, *TINY
    )
    assert "run_dir must be a folder that can be written to" in failure(
        "run_finetune.py", f"--data={photos}", "--run_dir=/proc/run", *TINY
    )
    one = [
        "run_finetune.py",
        f"--data={photos / 'red'}",
        "--objective=supervised",
        f"--run_dir={tmp_path / 'one'}",
        *TINY,
    ]
    assert (
        "objective supervised needs crops of at least 2 classes; the training crops "
        "have 0" in failure(*one)
    )
    large = [
        "run_finetune.py",
        f"--data={photos}",
        f"--run_dir={tmp_path / 'large'}",
        *TINY,
        "--batch_size=64",
    ]
    assert (
        "batch_size must be at most the number of training crops, 36; got 64"
        in failure(*large)
    )


def test_broken_validation_images_do_not_stop_a_run(tmp_path):
    for split in ("train", "validation"):
        for number, (name, color) in enumerate(COLORS.items()):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for photo in range(8):
                path = tmp_path / "photos" / split / name / f"{photo}.jpg"
                noisy(color, (64, 64), 100 * number + photo).save(path)
                if split == "validation" and photo < 2:
                    path.write_bytes(path.read_bytes()[:1200])
    run = [
        "run_finetune.py",
        f"--data={tmp_path / 'photos'}",
        f"--run_dir={tmp_path / 'run'}",
        "--epochs=1",
        *TINY,
    ]
    call(*run)
    assert len(EmbeddingSet.load(tmp_path / "run" / "embeddings").table) == 42
    skipped = json.loads((tmp_path / "run" / "skipped.json").read_text())
    assert len(skipped) == 6
    (
        tmp_path / "run" / "result.json"
    ).unlink()  # what a kill just before the end leaves
    call(*run)
    assert json.loads((tmp_path / "run" / "skipped.json").read_text()) == skipped


def test_marking_everything_and_defaults_work_on_a_small_set(run_dir, tmp_path):
    search = [
        "run_search.py",
        f"--embeddings={run_dir / 'embeddings'}",
        "--query=green/00.png",
        f"--out={tmp_path / 'out.csv'}",
    ]
    assert "top 34:" in call(*search).stdout
    lines = (tmp_path / "out.csv").read_text().splitlines()
    marked = [line.split(",") for line in lines]
    for fields in marked[1:]:
        fields[3] = str(int(fields[4] == "green"))
    (tmp_path / "marks.csv").write_text(
        "\n".join(",".join(fields) for fields in marked)
    )
    assert (
        "linear probe, 34 marks"
        in call(*search, f"--marks={tmp_path / 'marks.csv'}").stdout
    )


def test_a_call_that_failed_does_not_stand_in_the_way_of_the_right_one(
    photos, tmp_path
):
    run = ["run_finetune.py", f"--run_dir={tmp_path / 'run'}", "--epochs=0", *TINY]
    (tmp_path / "empty").mkdir()
    failure(*run, f"--data={tmp_path / 'empty'}")
    call(*run, f"--data={photos}")
    assert len(EmbeddingSet.load(tmp_path / "run" / "embeddings").table) == 36


def test_new_photos_are_not_mixed_into_a_run(photos, tmp_path):
    run = [
        "run_finetune.py",
        f"--data={photos}",
        f"--run_dir={tmp_path / 'run'}",
        "--epochs=1",
        *TINY,
    ]
    call(*run)
    (photos / "red" / "00.png").rename(photos / "red" / "new.png")
    assert "the images in data have changed since the run" in failure(*run)
    weights = f"--weights={tmp_path / 'run' / 'encoder.weights.h5'}"
    call(*run[:2], f"--run_dir={tmp_path / 'new'}", "--epochs=0", *TINY, weights)
    old, new = (
        EmbeddingSet.load(tmp_path / name / "embeddings") for name in ("run", "new")
    )
    assert old.meta["encoder_hash"] == new.meta["encoder_hash"]


def test_a_run_killed_at_any_time_ends_as_one_that_was_not(photos, tmp_path):
    command = [
        "--objective=contrastive",
        "--epochs=4",
        '--config={"checkpoint_minutes": 0}',
        f"--data={photos}",
        *TINY,
    ]
    call("run_finetune.py", *command, f"--run_dir={tmp_path / 'whole'}")
    killed = tmp_path / "killed"
    for stage in ("checkpoints/ckpt-3.index", "checkpoints/ckpt-9.index"):
        with subprocess.Popen(
            [sys.executable, ROOT / "run_finetune.py", *command, f"--run_dir={killed}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while not (killed / stage).exists():
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
    call("run_finetune.py", *command, f"--run_dir={killed}")
    one, two = (
        EmbeddingSet.load(folder / "embeddings")
        for folder in (tmp_path / "whole", killed)
    )
    assert one.table.ids.tolist() == two.table.ids.tolist()
    np.testing.assert_allclose(one.vectors, two.vectors, rtol=1e-4, atol=1e-5)
    logs = [
        [
            json.loads(line)["step"]
            for line in (folder / "metrics.jsonl").read_text().splitlines()
        ]
        for folder in (tmp_path / "whole", killed)
    ]
    assert logs[0] == logs[1]


def metrics(run, kind="step"):
    lines = [
        json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()
    ]
    return [line for line in lines if line["kind"] == kind]


def test_the_saved_model_of_a_run_embeds_as_the_run_and_can_be_tuned_on(
    run_dir, tmp_path
):
    """export -> run as it is -> fine-tune -> export -> search for an image from
    outside, all by flags.
    """
    photos = json.loads((run_dir / "config.json").read_text())["data"]
    common = [
        f"--data={photos}",
        "--image_size=32",
        "--batch_size=8",
        "--encoder=saved_model",
    ]
    again = tmp_path / "again"
    call(
        "run_finetune.py",
        *common,
        f"--weights={run_dir / 'saved_model'}",
        "--epochs=0",
        f"--run_dir={again}",
    )
    first, second = (EmbeddingSet.load(run / "embeddings") for run in (run_dir, again))
    np.testing.assert_allclose(second.vectors, first.vectors, rtol=1e-4, atol=1e-5)

    tuned = tmp_path / "tuned"
    call(
        "run_finetune.py",
        *common,
        f"--weights={run_dir / 'saved_model'}",
        "--epochs=1",
        f"--run_dir={tuned}",
    )
    assert "online_accuracy" in metrics(tuned)[0]  # the photos have classes
    found = EmbeddingSet.load(tuned / "embeddings")
    assert np.abs(found.vectors - first.vectors).max() > 1e-4
    assert found.meta["weights"] == str(tuned / "saved_model")
    assert found.meta["weights_beside"] == "../saved_model"
    Image.open(found.table.path(3)).save(tmp_path / "outside.png")
    out = tmp_path / "out.csv"
    call(
        "run_search.py",
        f"--embeddings={tuned / 'embeddings'}",
        f"--query={tmp_path / 'outside.png'}",
        "--k=5",
        f"--out={out}",
    )
    with open(out, newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["crop_id"] == found.table.ids[3]


def test_a_preset_gives_way_to_flags(photos, tmp_path):
    run = tmp_path / "run"
    arguments = [
        f"--data={photos}",
        "--preset=cifar10_pretrain",
        "--encoder=tiny",
        "--batch_size=12",
        f"--run_dir={run}",
        "--eval_split=all",
    ]
    call("run_finetune.py", *arguments, "--epochs=2", '--config={"warmup_epochs": 0}')
    config = json.loads((run / "config.json").read_text())
    assert (config["encoder"], config["epochs"], config["batch_size"]) == (
        "tiny",
        2,
        12,
    )
    assert (
        config["optimizer"],
        config["temperature"],
        config["image_size"],
        config["blur_prob"],
    ) == ("lars", 0.5, 32, 0.0)
    assert metrics(run)[0]["learning_rate"] == pytest.approx(1.0 * 12 / 256)
    assert (config["train_split"], len(metrics(run))) == (
        "train",
        4,
    )  # about 30 of the 36 photos
    accuracies = [entry["all_accuracy"] for entry in metrics(run, "epoch")]
    assert all(
        accuracy * 36 == pytest.approx(round(accuracy * 36)) for accuracy in accuracies
    )  # shares of 36 photos
    assert (
        "is complete already"
        in call(
            "run_finetune.py", *arguments, "--epochs=2", '--config={"warmup_epochs": 0}'
        ).stderr
    )


@pytest.mark.slow
def test_fine_tuning_a_simclr_resnet_step_by_step(photos, tmp_path):
    """Pretrain, then from its checkpoint: the last group on half of the labels, and
    from a layer of the head.
    """
    common = [
        f"--data={photos}",
        "--encoder=r18_1x_sk0_small",
        "--image_size=32",
        "--batch_size=12",
        "--epochs=1",
    ]
    start = tmp_path / "pretrained"
    call(
        "run_finetune.py",
        *common,
        "--weights=random",
        '--config={"optimizer": "lars"}',
        f"--run_dir={start}",
    )
    weights = f"--weights={start / 'saved_model'}"
    sets = {"start": EmbeddingSet.load(start / "embeddings").vectors}
    for name, flags in {
        "last": [
            "--objective=supervised",
            '--config={"freeze_through_block": 3, "label_fraction": 0.5}',
        ],
        "head": [
            "--objective=supervised",
            '--config={"projection_layer": 1, "endpoint": "block_group2"}',
        ],
    }.items():
        call(
            "run_finetune.py", *common, weights, *flags, f"--run_dir={tmp_path / name}"
        )
        sets[name] = EmbeddingSet.load(tmp_path / name / "embeddings").vectors
        assert (tmp_path / name / "saved_model" / "saved_model.pb").is_file()
    assert np.abs(sets["last"] - sets["start"]).max() > 1e-4
    assert sets["head"].shape == (36, 128)
    assert len(metrics(tmp_path / "last")) == 1  # 18 of 36 labels


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--objective=supervised", '--config={"freeze_through_block": 2}'],
            "freeze_through_block must be -1 .* got 2 with encoder tiny",
        ),
        (
            ['--config={"micro_batch": 5}'],
            "micro_batch must divide the 16 images of a batch",
        ),
        (["--strategy=multiworker"], "needs TF_CONFIG"),
        (
            ["--weights=gs://127.0.0.1:9/no/saved_model", "--encoder=saved_model"],
            "gs://127.0.0.1:9/no/saved_model can't be",
        ),
    ],
)
def test_bad_settings_of_simclr_are_named_before_work_starts(
    photos, tmp_path, flags, message
):
    run = tmp_path / "run"
    said = failure(
        "run_finetune.py", f"--data={photos}", f"--run_dir={run}", *TINY, *flags
    )
    assert re.search(message, said), said
    assert not (run / "config.json").exists()


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_probe_is_saved_audited_and_applied(run_dir, tmp_path, monkeypatch):
    """Marks -> probe -> random audit, marked whole -> estimates and a threshold -> the
    class, which the answers overrule; foreign embeddings are refused.
    """
    embeddings = EmbeddingSet.load(run_dir / "embeddings")
    names = embeddings.table.column("label_name")
    labels = dict(zip(embeddings.table.ids, names, strict=True))
    query = next(name for name, label in labels.items() if label == "green")
    marked = [name for name in labels if name != query][::6]
    lines = [f"{name},{int(labels[name] == 'green')}" for name in marked]
    (tmp_path / "marks.csv").write_text("\n".join(["crop_id,relevant", *lines]))
    search = ["run_search.py", f"--embeddings={run_dir / 'embeddings'}"]
    # A path as typed from this folder, which means nothing from another.
    image = embeddings.table.path(embeddings.table.row_of(query))
    monkeypatch.chdir(image.parent)
    learn = [f"--query={image.name}", f"--marks={tmp_path / 'marks.csv'}", "--k=3"]
    learn += [f"--save_probe={tmp_path / 'probe'}"]
    four = '--config={"suggest_count": 4}'
    call(*search, *learn, f"--suggest={tmp_path / 'ask.csv'}", four)
    monkeypatch.chdir(tmp_path)
    asked = read(tmp_path / "ask.csv")
    assert [line["relevant"] for line in asked[:4]] == [""] * 4
    assert {line["crop_id"] for line in asked[4:]} == set(marked)
    assert not {line["crop_id"] for line in asked[:4]} & {*marked, query}
    saved = json.loads((tmp_path / "probe" / "probe.json").read_text())
    assert saved["queries"] == [query]

    # The stop signal is about new marks: without any there is nothing to compare.
    again = call(*search, f"--query={query}", *learn[1:]).stdout
    assert "no new marks" in again
    assert "kappa" not in again
    assert f"(the one before: {tmp_path / 'probe.old-1'})" in again
    assert (tmp_path / "probe.old-1" / "probe.json").exists()
    one = next(name for name in labels if name not in (query, *marked))
    with_one = [*lines, f"{one},{int(labels[one] == 'green')}"]
    (tmp_path / "more.csv").write_text("\n".join(["crop_id,relevant", *with_one]))
    more = [f"--query={query}", f"--marks={tmp_path / 'more.csv'}", learn[-1]]
    assert "kappa" in call(*search, *more).stdout
    call(*search, f"--query={query}", *learn[1:])

    probe = f"--probe={tmp_path / 'probe'}"
    evaluate = ["run_evaluate.py", search[1], probe]
    audit = [*evaluate, f"--audit={tmp_path / 'audit.csv'}"]
    assert "drawn at random" in call(*audit).stdout
    assert "must hold at least one mark" in failure(*audit)
    drawn = read(tmp_path / "audit.csv")
    population = len(labels) - len(marked) - 1
    assert len(drawn) == min(100, population)
    ids = [line["crop_id"] for line in drawn]
    assert not set(ids) & {*marked, query}
    # Blind and shuffled: nothing tells what the answer should be.
    assert list(drawn[0]) == ["crop_id", "relevant", "picture"]
    for line in drawn:
        row = embeddings.table.row_of(line["crop_id"])
        with Image.open(tmp_path / line["picture"]) as picture:
            shown = np.asarray(picture.convert("RGB"))
        box = embeddings.table.boxes[row].tolist()
        cut = cut_at_most(
            read_image(embeddings.table.path(row)), box, 4096, embeddings.window
        )
        np.testing.assert_array_equal(shown, np.asarray(cut))
    assert ids != sorted(ids, key=list(labels).index)
    lines = [f"{crop_id},{int(labels[crop_id] == 'green')}" for crop_id in ids]
    (tmp_path / "audit.csv").write_text("\n".join(["crop_id,relevant", *lines[:-1]]))
    assert "audit must be marked whole" in failure(*audit)
    (tmp_path / "audit.csv").write_text("\n".join(["crop_id,relevant", *lines]))
    told = call(*audit, "--target_precision=0.2").stdout
    # Everything was drawn, so the estimate is the truth: all greens, the query too.
    size = sum(label == "green" for label in labels.values())
    assert f"class size             {size} [{size}, {size}]" in told
    assert f"(of the {len(labels)} crops searched)" in told
    assert "drawn for another ranking or --where" in failure(
        *audit, "--where=label_name <> 'red'"
    )

    # The class: as many rows as were announced, right to the last, since every crop
    # was answered; marks have a file of their own.
    listed = call(*search, probe, f"--out={tmp_path / 'class.csv'}").stdout
    assert f"{size} of {len(labels)} crops in the class" in listed
    found = [line["crop_id"] for line in read(tmp_path / "class.csv")]
    assert len(found) == size
    assert {labels[crop_id] for crop_id in found} == {"green"}
    told = {line["crop_id"]: line["relevant"] for line in read("class.marks.csv")}
    assert told == {
        crop_id: str(int(labels[crop_id] == "green")) for crop_id in [*marked, *ids]
    }
    # The export is the same class, overruled by the answers in the same way.
    export = ["run_export.py", search[1], probe, "--class_name=leaf"]
    call(*export, "--format=csv", f"--folder={tmp_path / 'leaf'}")
    exported = read(tmp_path / "leaf" / "crops.csv")
    assert {line["crop_id"] for line in exported} == set(found)
    assert {line["label_name"] for line in exported} == {"leaf"}

    # --where bounds the class, whatever was said of crops outside of it.
    few = "--where=label_name <> 'green'"
    none = f"--folder={tmp_path / 'none'}"
    refused = failure(*export, "--format=csv", none, few)
    assert "selection must hold at least one crop" in refused
    # Images that have moved: nothing is announced that isn't there.
    moved = [f"--images_root={tmp_path / 'nowhere'}", none]
    for kind in ("folder", "yolo"):
        assert "none of the" in failure(*export, f"--format={kind}", *moved)
        assert not (tmp_path / "none").exists()
    # A target out of reach: the probe's own threshold stays, and its precision is
    # said here and on the card alike.
    (tmp_path / "audit.csv").write_text(
        "\n".join(["crop_id,relevant", *(f"{crop_id},0" for crop_id in ids)])
    )
    told = call(*audit).stdout
    assert "no threshold is that precise" in told
    call(*export, "--format=csv", f"--folder={tmp_path / 'poor'}")
    card = json.loads((tmp_path / "poor" / "card.json").read_text())
    assert card["estimates"]["precision"]["estimate"] == 0.0
    # A probe that learned from more keeps the answers that it didn't learn from, and
    # the same audit judges it by those.
    lines = [f"{crop_id},{int(labels[crop_id] == 'green')}" for crop_id in ids]
    (tmp_path / "audit.csv").write_text("\n".join(["crop_id,relevant", *lines]))
    call(*audit)
    learn_more = [f"--query={query}", f"--marks={tmp_path / 'more.csv'}", learn[-1]]

    def learn_from(names):
        told = [f"{name},{int(labels[name] == 'green')}" for name in names]
        (tmp_path / "more.csv").write_text("\n".join(["crop_id,relevant", *told]))
        return call(*search, *learn_more, f"--suggest={tmp_path / 'ask.csv'}").stdout

    once = learn_from([*marked, ids[0]])
    assert f"keeps {len(ids) - 1} answers of an audit" in once
    asked = [line["crop_id"] for line in read(tmp_path / "ask.csv")]
    assert set(asked) <= {*marked, ids[0]}  # what was answered isn't asked for
    told = call(*audit).stdout
    assert "it learned from 1 of them since" in told
    assert f"class size             {size} [{size}, {size}]" in told
    # Where it learned from most of them the audit has aged.
    learn_from([*marked, *ids[:-3]])
    assert f"it did from {len(ids) - 3} of {len(ids)} crops" in failure(*audit)
    # A probe without some of the marks is of something else.
    assert "marks that this one has not: they stay in" in learn_from(marked[:-1])
    assert "drawn for another probe, whose queries" in failure(*audit)
    learn_from(marked)
    call(*audit)

    marked_list = (tmp_path / "audit.csv").read_bytes()
    once_more = call(*search, probe, f"--out={tmp_path / 'audit.csv'}").stdout
    assert "held other marks: kept as" in once_more
    assert (tmp_path / "audit.csv.old-1").read_bytes() == marked_list
    (tmp_path / "mine").mkdir()
    mine = [f"--marks={tmp_path / 'marks.csv'}", f"--save_probe={tmp_path / 'mine'}"]
    refused = failure(*search, *mine)
    assert "save_probe must be a new folder or one that holds a probe" in refused

    meta = json.loads((tmp_path / "probe" / "probe.json").read_text())
    meta["identity"]["encoder_hash"] = "another"
    (tmp_path / "probe" / "probe.json").write_text(json.dumps(meta))
    assert "encoder_hash was 'another'" in failure(*search, probe)


def test_an_audit_of_version_0_5_0_is_taken_up(tmp_path, monkeypatch):
    """Its sample, its questions and its answers; it is known by its old order."""
    files = shutil.copytree(ROOT / "tests" / "files_of_0_5_0", tmp_path / "files")
    monkeypatch.chdir(tmp_path)
    audit = [
        "run_evaluate.py",
        f"--embeddings={files / 'run' / 'embeddings'}",
        f"--probe={files / 'probes' / 'logistic'}",
        "--target_precision=0.8",
    ]
    told = call(*audit, f"--audit={files / 'audit.csv'}").stdout
    before = json.loads((files / "expected.json").read_text())["audit"]
    for line in before.splitlines():
        if line.startswith("precision of top"):
            assert line.partition("   (")[0] in told
    assert "threshold and answers" in told
    assert "must hold at least one mark" in failure(
        *audit, f"--audit={files / 'audit_drawn.csv'}"
    )


def test_negatives_and_the_worst_first(run_dir, tmp_path):
    embeddings = EmbeddingSet.load(run_dir / "embeddings")
    ids, count = embeddings.table.ids, len(embeddings.table)
    search = [
        "run_search.py",
        f"--embeddings={run_dir / 'embeddings'}",
        f"--query={ids[0]}",
    ]
    lists = []
    plain = '--config={"transform": "l2"}'
    worst = '--config={"transform": "l2", "ascending": true}'
    for flags in ([plain], [worst], [plain, f"--negative={ids[9]}"]):
        call(*search, *flags, f"--k={count - 2}", f"--out={tmp_path / 'out.csv'}")
        with open(tmp_path / "out.csv", newline="", encoding="utf-8") as file:
            lists.append([line["crop_id"] for line in csv.DictReader(file)])
    assert lists[0][0] == lists[1][-1] or lists[0][1] == lists[1][-1]
    assert lists[0][2:] == [name for name in lists[1][::-1] if name in lists[0][2:]]
    unit = l2_normalize(embeddings.vectors, np.float64)
    scores = unit @ (unit[0] - 0.5 * unit[9])
    assert lists[2] == [
        ids[row] for row in np.argsort(-scores, kind="stable") if row not in (0, 9)
    ]


def test_the_simulation_resumes_and_tells_the_same(run_dir, tmp_path):
    command = [
        "benchmarks.simulate",
        f"--embeddings={run_dir / 'embeddings'}",
        "--queries=1",
        "--rounds=2",
        "--per_round=3",
        "--k=3",
        "--transforms=center",
        "--methods=auto,logistic",
        "--strategies=mix,random",
        "--processes=1",
        f"--dir={tmp_path}",
    ]
    call_module(*command)
    first = [(tmp_path / name).read_bytes() for name in ("results.md", "results.csv")]
    lines = (tmp_path / "sessions.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 3  # classes x combinations
    (tmp_path / "sessions.jsonl").write_text(
        "\n".join(lines[:4]) + "\n" + lines[4][:50]
    )  # killed within a line
    call_module(*command)
    assert [
        (tmp_path / name).read_bytes() for name in ("results.md", "results.csv")
    ] == first
    with Image.open(tmp_path / "results.png") as picture:
        assert picture.width > 500


def test_several_classes_are_searched_and_marked_at_once(run_dir, tmp_path):
    embeddings = EmbeddingSet.load(run_dir / "embeddings")
    names = embeddings.table.column("label_name")
    labels = dict(zip(embeddings.table.ids, names, strict=True))
    first = {}
    for crop_id, label in labels.items():
        first.setdefault(label, crop_id)
    search = ["run_search.py", f"--embeddings={run_dir / 'embeddings'}", "--k=3"]
    search += [f"--classes={name}={first[name]}" for name in ("green", "red")]
    out, ask = f"--out={tmp_path / 'out.csv'}", f"--suggest={tmp_path / 'ask.csv'}"
    four = '--config={"suggest_count": 4}'
    told = call(*search, ask, four).stdout
    assert "4 crops to mark" in told
    asked = read(tmp_path / "ask.csv")
    assert [line["class"] for line in asked] == [""] * 4
    # Marked in the list itself, with every sixth crop besides.
    marked = [crop_id for crop_id in labels if crop_id not in first.values()][::6]
    known = dict.fromkeys([line["crop_id"] for line in asked] + marked)
    lines = [
        f"{crop_id},{labels[crop_id] if labels[crop_id] in ('green', 'red') else 'none'}"
        for crop_id in known
    ]
    (tmp_path / "marks.csv").write_text("\n".join(["crop_id,class", *lines]))
    marks, probes = (
        f"--marks={tmp_path / 'marks.csv'}",
        f"--save_probe={tmp_path / 'p'}",
    )
    sheet = f"--sheet={tmp_path / 'sheet.png'}"
    told = call(*search, marks, out, ask, four, probes, sheet).stdout
    assert "linear" not in told.partition("rank")[0]  # titled by the class
    found = read(tmp_path / "out.csv")
    listed = [line for line in found if line["predicted"]]
    assert f"{len(listed)} crops of 2 classes" in told
    right = [labels[line["crop_id"]] == line["predicted"] for line in listed]
    assert np.mean(right) > 0.6
    stated = {line["crop_id"]: line["class"] for line in found if line["class"]}
    assert stated == dict(line.split(",") for line in lines)  # no mark is lost
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    # The list given back comes to the same, and the probes are probes.
    again = call(*search, f"--marks={tmp_path / 'out.csv'}", out).stdout
    assert read(tmp_path / "out.csv") == found
    assert f"{len(listed)} crops of 2 classes" in again
    probe = ["run_search.py", search[1], f"--probe={tmp_path / 'p' / 'red'}", "--k=5"]
    assert "probe" in call(*probe).stdout
    assert "(the one before" in call(*search, marks, probes).stdout
    # Mistakes are named before anything is written.
    (tmp_path / "marks.csv").write_text(f"crop_id,class\n{marked[0]},moss\n")
    assert "class must be one of green, red, or none; got moss" in failure(
        *search, marks
    )
    assert "must name two or more; got green" in failure(*search[:-1])
    assert "exclude query" in failure(*search, f"--query={first['red']}")


@pytest.mark.slow
def test_the_benchmarks_of_marking_run(field_set):
    """On the sample field, with little of everything; figures are theirs to say."""
    sets, few = f"--embeddings={field_set}", "--queries=1"
    told = call_module(
        "benchmarks.audits", sets, few, "--size=20", "--before=1", "--after=1"
    )
    assert told.count("recall") == 2
    told = call_module("benchmarks.audits", "--pool=300", "--repetitions=3")
    assert told.count("exact width") == 7
    told = call_module("benchmarks.mistakes", sets, few)
    assert "of the first" in told
    rows = ["--rows=5000", "--width=40", "--marks=140,300", "--repetitions=1"]
    assert call_module("benchmarks.learning", *rows).count("suggestions") == 2
    assert "difference" in call_module("benchmarks.learning", sets, "--marks=300")
    told = call_module("benchmarks.peers", sets, few)
    assert "| Perch Hoplite, agile modeling |" in told


def test_embedding_in_parts(photos, tmp_path):
    """Two shares, in either order, come to the set that one process makes."""
    alone = [f"--data={photos}", f"--embeddings={tmp_path / 'alone'}", *TINY[:3]]
    call("run_embed", *alone)
    shared = [f"--data={photos}", f"--embeddings={tmp_path / 'shared'}", *TINY[:3]]
    said = call("run_embed", *shared, "--part=2/2").stdout
    assert "part 2 of 2 is embedded; 18 crops of other parts are missing" in said
    assert not (tmp_path / "shared").exists()
    assert "36 crops embedded" in call("run_embed", *shared, "--part=1/2").stdout
    one, two = (EmbeddingSet.load(tmp_path / name) for name in ("alone", "shared"))
    np.testing.assert_allclose(one.vectors, two.vectors, atol=1e-6)
    assert one.table.rows.equals(two.table.rows)
    # Once more, whole or in parts, does nothing.
    for more in ([], ["--part=1/2"]):
        before = (tmp_path / "shared/meta.json").read_bytes()
        call("run_embed", *shared, *more)
        assert (tmp_path / "shared/meta.json").read_bytes() == before
    for wrong in ("0/2", "3/2", "1", "a/b", "1/2/3"):
        said = failure("run_embed", *shared, f"--part={wrong}")
        assert "part must be WHICH/OF_HOW_MANY" in said


def test_a_part_that_comes_while_another_joins(photos, tmp_path):
    target = tmp_path / "set"
    stated = [f"--data={photos}", f"--embeddings={target}", *TINY[:3]]
    call("run_embed", *stated, "--part=1/2")
    with exclusive(tmp_path, "", ".set.lock"):
        said = call("run_embed", *stated, "--part=2/2").stdout
    assert "another one joins them now" in said
    assert "36 crops embedded" in call("run_embed", *stated, "--part=2/2").stdout


@pytest.mark.parametrize("stored_as", ["float16", "int8"])
def test_fewer_bits_serve_search_marks_and_export(photos, tmp_path, stored_as):
    config = f'{{"stored_as": "{stored_as}"}}'
    folder = f"--embeddings={tmp_path / 'set'}"
    call("run_embed", f"--data={photos}", folder, f"--config={config}", *TINY[:3])
    found = EmbeddingSet.load(tmp_path / "set")
    assert found.meta["parts"][0]["dtype"] == stored_as
    query = f"--query={found.ids[0]}"
    out = tmp_path / "list.csv"
    call("run_search", folder, query, "--k=11", f"--out={out}")
    names = dict(zip(found.ids, found.table.column("label_name"), strict=True))
    wanted = names[str(found.ids[0])]
    with open(out, newline="", encoding="utf-8") as file:
        listed = [row["crop_id"] for row in csv.DictReader(file)]
    marks = [f"{crop},{int(names[crop] == wanted)}" for crop in listed[:-1]]
    marks.append(f"{listed[-1]},0")
    out.write_text("\n".join(["crop_id,relevant", *marks]) + "\n")
    probe = f"--save_probe={tmp_path / 'probe'}"
    call("run_search", folder, query, f"--marks={out}", probe)
    call(
        "run_export",
        folder,
        f"--probe={tmp_path / 'probe'}",
        "--format=csv",
        f"--folder={tmp_path / 'class'}",
        "--class_name=it",
    )
    assert (tmp_path / "class" / "card.json").is_file()
