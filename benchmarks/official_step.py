"""One pretraining step of the official code, timed. Runs under a Python of its own,
with TensorFlow and tf_keras.

Started by benchmarks/official_speed.py; prints seconds a step, one a line.
"""

import argparse
import os
import sys
import time

SETTINGS = {
    "learning_rate": 1.0,
    "learning_rate_scaling": "linear",
    "warmup_epochs": 10.0,
    "weight_decay": 1e-4,
    "batch_norm_decay": 0.9,
    "train_epochs": 100,
    "train_steps": 0,
    "train_mode": "pretrain",
    "lineareval_while_pretraining": True,
    "zero_init_logits_layer": False,
    "fine_tune_after_block": -1,
    "optimizer": "lars",
    "momentum": 0.9,
    "temperature": 0.5,
    "hidden_norm": True,
    "proj_head_mode": "nonlinear",
    "proj_out_dim": 128,
    "num_proj_layers": 3,
    "ft_proj_selector": 0,
    "global_bn": True,
    "width_multiplier": 1,
    "sk_ratio": 0.0,
    "se_ratio": 0.0,
    "use_blur": False,
}


def main() -> None:
    """What the command line does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--official", required=True)
    for name in ("depth", "size", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    asked = parser.parse_args()
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.path.insert(0, asked.official)

    from absl import flags

    define: dict = {
        bool: flags.DEFINE_boolean,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    sizes = {
        "resnet_depth": asked.depth,
        "image_size": asked.size,
        "train_batch_size": asked.batch,
    }
    for name, value in {**SETTINGS, **sizes}.items():
        define[type(value)](name, value, "")
    flags.FLAGS([sys.argv[0]])

    import model as official_model
    import objective as official_objective
    import tensorflow as tf

    network = official_model.Model(10)
    optimizer = official_model.build_optimizer(
        official_model.WarmUpAndCosineDecay(SETTINGS["learning_rate"], 50_000)
    )
    strategy = tf.distribute.get_strategy()

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            projections, logits = network(images, training=True)
            loss, _, _ = official_objective.add_contrastive_loss(
                projections,
                hidden_norm=True,
                temperature=SETTINGS["temperature"],
                strategy=strategy,
            )
            loss += official_objective.add_supervised_loss(
                labels=tf.concat([labels, labels], 0), logits=logits
            )
            loss += official_model.add_weight_decay(network, adjust_per_optimizer=True)
        gradients = tape.gradient(loss, network.trainable_variables)
        pairs = zip(gradients, network.trainable_variables, strict=True)
        optimizer.apply_gradients(pairs)
        return loss

    images = tf.random.stateless_uniform(
        (asked.batch, asked.size, asked.size, 6), (0, 1)
    )
    labels = tf.one_hot(tf.range(asked.batch) % 10, 10)
    for number in range(asked.steps + 2):  # two to warm up
        started = time.perf_counter()
        float(step(images, labels))
        if number >= 2:
            print(f"{time.perf_counter() - started:.4f}", flush=True)


if __name__ == "__main__":
    main()
