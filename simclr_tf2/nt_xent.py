"""NT-Xent, the contrastive loss of SimCLR (Chen et al., 2020, arXiv 2002.05709,
equation 1 and algorithm 1).
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

# taken off an anchor's similarity to itself, which leaves it out of the softmax in
# float32
_SELF = 1e9


class NTXent(NamedTuple):
    """What `nt_xent` returns, float32 scalars."""

    loss: tf.Tensor
    accuracy: tf.Tensor  # share of first views whose nearest second view is their own
    entropy: tf.Tensor  # of the softmax of first views over second views, in nats


def nt_xent(hidden: tf.Tensor, temperature: float, normalize: bool = True) -> NTXent:
    """Normalised temperature-scaled cross entropy between two views of each image.

    With z the L2-normalised rows, s(i, j) = z_i . z_j / temperature, and i' the other
    view of i, an anchor's loss is

        l(i) = -log( exp s(i, i') / sum over j != i of exp s(i, j) )

    The result is the sum of the two views' losses, averaged over the B images, as the
    published TF2 code has it: twice the mean over all 2B anchors that equation 1 leads
    to.

    Inside `strategy.run` the candidates j are the views of all replicas, and gradients
    pass back through the gathering: the mean of the replicas' losses is the loss of one
    device that holds the whole batch, and so is its gradient once each replica has
    divided its loss by their number and the gradients have been summed.

    Args:
        hidden: projections, [2B, D], all first views before all second views: rows i
            and i + B belong together. B is the same on every replica.
        temperature: greater than 0; the paper uses 0.1 to 1.
        normalize: whether similarity is the cosine; otherwise the dot product, which
            the paper found worse (table 5).
    """
    hidden = tf.cast(hidden, tf.float32)
    first, second = tf.split(
        tf.math.l2_normalize(hidden, axis=1) if normalize else hidden, 2
    )
    batch = tf.shape(first)[0]
    all_first, all_second, own = _over_replicas(first, second, tf.range(batch))
    itself = tf.one_hot(own, tf.shape(all_first)[0]) * _SELF

    def similarity(anchors, candidates):
        return tf.matmul(anchors, candidates, transpose_b=True) / temperature

    first_to_second = similarity(first, all_second)  # [B, B on all replicas]
    first_to_first = similarity(first, all_first) - itself
    second_to_first = similarity(second, all_first)
    second_to_second = similarity(second, all_second) - itself
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        own, tf.concat([first_to_second, first_to_first], 1)
    )
    loss += tf.nn.sparse_softmax_cross_entropy_with_logits(
        own, tf.concat([second_to_first, second_to_second], 1)
    )
    accuracy = tf.reduce_mean(
        tf.cast(tf.equal(tf.argmax(first_to_second, 1, tf.int32), own), tf.float32)
    )
    share = tf.nn.softmax(first_to_second)
    entropy = -tf.reduce_mean(tf.reduce_sum(share * tf.math.log(share + 1e-8), axis=1))
    return NTXent(tf.reduce_mean(loss), accuracy, entropy)


def _over_replicas(
    first: tf.Tensor, second: tf.Tensor, rows: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The views of all replicas in their order, and where among them this replica's
    rows are.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return first, second, rows
    gathered = context.all_gather(
        tf.stack([first, second], axis=1), axis=0
    )  # [B on all replicas, 2, D], in one exchange
    return (
        gathered[:, 0],
        gathered[:, 1],
        rows + context.replica_id_in_sync_group * tf.shape(first)[0],
    )
