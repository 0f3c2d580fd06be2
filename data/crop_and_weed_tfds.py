"""CropAndWeed as a tensorflow-datasets builder, so that `tfds.load` works on it.

import data.crop_and_weed_tfds  # registers it

# The folder that `python -m data.download.cropandweed` made.
config = tfds.download.DownloadConfig(manual_dir="cropandweed")
dataset = tfds.load(
    "crop_and_weed/Fine24",
    split="train",
    download_and_prepare_kwargs={"download_config": config},
)
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from data.crop_table import CropTable
from data.formats.base import RAW, SourceOptions
from data.formats.cropandweed import CONDITIONS, variants
from data.formats.registry import read_source
from data.splits import split_mask

_UNKNOWN = "unknown"


class CropAndWeed(tfds.core.GeneratorBasedBuilder):
    """Field images with boxes around crops and weeds; a config for each variant of the
    classes.

    Boxes of no class of the variant have the label -1; `label_id` is the one on disk.
    Splits are made by recording session, as `data.splits` does: frames of one session
    never lie on both sides.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(
            name=name, description=f"Classes of the variant {name}."
        )
        for name in variants()
    ]
    DEFAULT_CONFIG_NAME = RAW
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    The licence must be read and accepted: run
    `python -m data.download.cropandweed --dir=cropandweed --accept_licence`
    and give its folder as manual_dir (the folder that holds images/ and bboxes/).
    """

    def _info(self) -> tfds.core.DatasetInfo:
        variant = variants()[self.builder_config.name]
        objects = {
            "bbox": tfds.features.BBoxFeature(),
            "label": tfds.features.ClassLabel(
                names=[variant.names[label] for label in sorted(variant.names)]
            ),
            "label_id": np.int32,
            "stem": tfds.features.Tensor(
                shape=(2,), dtype=np.float32
            ),  # x, y in pixels
            "touches_border": np.bool_,
        }
        conditions = {
            name: tfds.features.ClassLabel(names=[*values, _UNKNOWN])
            for name, values in CONDITIONS.items()
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                    "session": tfds.features.Text(),
                    "objects": tfds.features.Sequence(objects),
                    **conditions,
                }
            ),
            homepage="https://github.com/cropandweed/cropandweed-dataset",
            description=(
                "CropAndWeed (Steininger et al., WACV 2023), classes of the variant "
                f"{variant.name}. Non-commercial use."
            ),
            citation=(
                "Steininger et al., The CropAndWeed Dataset: A Multi-Modal Learning "
                "Approach for Efficient Crop and Weed Manipulation, WACV 2023, "
                "pages 3729-3738."
            ),
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[str, dict[str, object]]]]:
        options = SourceOptions("cropandweed", variant=self.builder_config.name)
        table, _ = read_source(dl_manager.manual_dir, options)
        splits = {}
        for name in ("train", "validation"):
            try:
                splits[name] = self._generate_examples(
                    table.take(split_mask(table, name))
                )
            except ValueError:
                continue  # too few sessions to hold one out
        return splits

    def _generate_examples(
        self, table: CropTable
    ) -> Iterator[tuple[str, dict[str, object]]]:
        place = {
            label: number
            for number, label in enumerate(
                sorted(variants()[self.builder_config.name].names)
            )
        }
        names = table.column("image")
        starts = np.flatnonzero(np.append(True, names[1:] != names[:-1]))
        for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
            rows = table.rows.slice(start, end - start).to_pylist()
            first = rows[0]
            width, height = first["image_width"], first["image_height"]
            objects = [
                {
                    "bbox": tfds.features.BBox(
                        row["top"] / height,
                        row["left"] / width,
                        row["bottom"] / height,
                        row["right"] / width,
                    ),
                    "label": place.get(row["label"], -1),
                    "label_id": row["label_id"],
                    "stem": np.array([row["stem_x"], row["stem_y"]], np.float32),
                    "touches_border": row["touches_border"],
                }
                for row in rows
            ]
            filename = Path(first["image"]).name
            conditions = {name: first[name] or _UNKNOWN for name in CONDITIONS}
            image = str(table.root / first["image"])
            yield (
                filename,
                {
                    "image": image,
                    "image/filename": filename,
                    "session": first["session"],
                    "objects": objects,
                    **conditions,
                },
            )
