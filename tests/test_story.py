"""docs/story.py: the public API from the first crop to the exported class."""

import importlib.util
import json
from pathlib import Path

from curation import EncoderConfig, FinetuneConfig
from simclr_tf2.config import AugmentConfig, ObjectiveConfig, TrainerConfig
from tests.conftest import read_card

STORY = Path(__file__).parent.parent / "docs" / "story.py"


def test_the_story_from_one_example_to_a_class(photos, tmp_path):
    spec = importlib.util.spec_from_file_location("story", STORY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder = EncoderConfig("tiny", "random")
    config = FinetuneConfig(
        encoder=encoder,
        learning=ObjectiveConfig(AugmentConfig(32)),
        training=TrainerConfig(epochs=1, batch_size=8),
    )
    query = photos / "red" / "03.png"
    precisions, known = module.story(
        photos, query, tmp_path / "out", encoder=encoder, config=config, per_round=4
    )
    # Three plain colours: a random network tells them apart, and marks keep it so.
    assert precisions[0] == precisions[1] == 1.0
    assert known.answered == known.drawn == 4
    assert known.size.low <= 12 <= known.size.high
    lines = (tmp_path / "out" / "class" / "crops.csv").read_text().splitlines()
    assert len(lines) == 1 + read_card(tmp_path / "out" / "class")["crops"]
    facts = json.loads((tmp_path / "out" / "session" / "session.json").read_text())
    assert facts["class_name"] == "found"


def test_it_is_as_short_as_the_readme_says():
    assert len(STORY.read_text().splitlines()) < 60
