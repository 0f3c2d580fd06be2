"""The post's story in Python: embed, search, fine-tune, search, mark, audit, export.

    python docs/story.py photos photos/beet/0017.jpg out

`photos` has a folder by class, whose names answer for a person; `out` is new."""

import sys
from pathlib import Path

from curation import (
    EncoderConfig,
    FinetuneConfig,
    Pool,
    Session,
    embed,
    export,
    finetune,
    read_crops,
)

ENCODER = EncoderConfig("efficientnet_lite0")


def story(photos, query, out, *, encoder=ENCODER, config=None, per_round=20):
    """P@10 of three lists (the last over unmarked crops), and what the audit says."""
    crops, out = read_crops(photos), Path(out)

    # 1. A pretrained network's vectors, and the crops like the query.
    frozen = Pool(embed(crops, encoder=encoder, folder=out / "frozen"))
    lists = [Session(frozen, query=query).rank(10)]

    # 2. The same after contrastive fine-tuning on all crops, without labels.
    how = config or FinetuneConfig(encoder=encoder)
    pool = Pool(finetune(crops, config=how, run_dir=out / "run").embeddings)
    session = Session(pool, query=query, folder=out / "session", class_name="found")
    lists.append(session.rank(10))

    # 3. Yes and no on what is suggested; a linear probe re-ranks everything.
    classes = pool.table.column("label_name")
    wanted = classes[pool.table.find(str(query))[0]]

    def judge(ids):  # a person's part
        return {crop: bool(classes[pool.table.row_of(crop)] == wanted) for crop in ids}

    for _ in range(3):
        session.mark(judge(session.suggest(per_round)))
    lists.append(session.rank(10, unmarked=True))

    # 4. A random sample says how good it is; the class goes where it is used.
    session.answer(judge(session.audit(per_round)))
    known = session.estimate()
    export(session.select(), format="csv", folder=out / "class", card=session.card())
    precisions = [float((classes[one.rows] == wanted).mean()) for one in lists]
    session.close()
    return precisions, known


if __name__ == "__main__":
    print(*story(*sys.argv[1:4]), sep="\n")
