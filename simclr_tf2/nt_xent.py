"""NT-Xent, the contrastive loss of SimCLR (Chen et al., 2020, arXiv 2002.05709, equation 1 and algorithm 1)."""

from __future__ import annotations

import tensorflow as tf

_SELF = 1e9  # taken off an anchor's similarity to itself, which leaves it out of the softmax in float32


def nt_xent(hidden: tf.Tensor, temperature: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalised temperature-scaled cross entropy between two views of each image.

    With z the L2-normalised rows, s(i, j) = z_i . z_j / temperature, and i' the other view of i, an anchor's loss is

        l(i) = -log( exp s(i, i') / sum over j != i of exp s(i, j) )

    The result is the sum of the two views' losses, averaged over the B images, as the published TF2 code has it: twice
    the mean over all 2B anchors that equation 1 leads to.

    Args:
        hidden: projections, [2B, D], all first views before all second views: rows i and i + B belong together.
        temperature: greater than 0; the paper uses 0.1 to 1.

    Returns:
        The loss, a float32 scalar, and the contrastive accuracy: the share of first views whose nearest second view is
        their own.
    """
    first, second = tf.split(tf.math.l2_normalize(tf.cast(hidden, tf.float32), axis=1), 2)
    batch = tf.shape(first)[0]
    own = tf.range(batch)
    itself = tf.one_hot(own, batch) * _SELF
    across = tf.matmul(first, second, transpose_b=True) / temperature  # [B, B], first views against second views
    within_first = tf.matmul(first, first, transpose_b=True) / temperature - itself
    within_second = tf.matmul(second, second, transpose_b=True) / temperature - itself
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(own, tf.concat([across, within_first], 1))
    loss += tf.nn.sparse_softmax_cross_entropy_with_logits(own, tf.concat([tf.transpose(across), within_second], 1))
    accuracy = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(across, 1, tf.int32), own), tf.float32))
    return tf.reduce_mean(loss), accuracy
