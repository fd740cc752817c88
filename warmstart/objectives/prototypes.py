"""Clusters of embeddings as prototypes: k-means with its cost, soft targets, and translating prototypes back.

Pictures and texts lie in separate cones of the common space, so that the centroids of one side are far from all
embeddings of the other, whatever they mean. Prototypical back translation (PBT) goes by membership alone: a cluster
found among the texts becomes the mean of its members' *picture* embeddings. Then what clustered them need not live in
the same space at all, nor have its dimensions.

Source: D. Chen et al., "Prototypical Contrastive Language Image Pretraining" (arXiv 2206.10996), and its official code.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch.nn import functional

from warmstart.errors import DataError
from warmstart.randomness import derive_seed

ITERATIONS, RESTARTS = 20, 3


def k_means(vectors: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Lloyd's algorithm from random members, the best of three: labels int64 `(rows,)`, centroids float32
    `(clusters, width)`, which are not normalised, and the FLOPs of all distances.

    Args:
        vectors: float `(rows, width)`.

    Raises:
        DataError: there are fewer rows than clusters.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    if clusters > len(vectors):
        raise DataError(f"{clusters} prototypes need as many rows to cluster, found {len(vectors)}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    found, passes = [], 0
    with threadpool_limits(1), warnings.catch_warnings():  # several threads add up in an order of their own
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal vectors: some clusters stay empty, which is fine
        for restart in range(RESTARTS):
            state = derive_seed(seed, "k-means", restart) % 2**32
            method = KMeans(clusters, init="random", n_init=1, max_iter=ITERATIONS, random_state=state)
            found.append(method.fit(vectors))
            passes += method.n_iter_ + 1
    best = min(found, key=lambda method: float(method.inertia_))
    flops = 2.0 * len(vectors) * clusters * vectors.shape[1] * passes
    return best.labels_.astype(np.int64), best.cluster_centers_.astype(np.float32), flops


def translated_back(members: torch.Tensor, labels: torch.Tensor, clusters: int) -> torch.Tensor:
    """Prototypical back translation: the mean of each cluster's members, float32 `(clusters, width)`; of a cluster
    without members exactly 0. Not normalised.

    Args:
        members: embeddings in the student's space, `(rows, width)`.
        labels: the teacher's cluster of each, int64 `(rows,)`.
    """
    sums = torch.zeros(clusters, members.shape[1], dtype=torch.float64, device=members.device)
    sums.index_add_(0, labels, members.double())
    sizes = torch.bincount(labels, minlength=clusters).clamp(min=1)
    return (sums / sizes[:, None]).float()


def soft_targets(centroids: torch.Tensor, labels: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """How much each prototype is what a row should be near to: float32 `(rows, clusters)`, rows add up to 1.

    Args:
        centroids: `(clusters, width)`; prototypes that are like the own one count too.
        temperature: of the softmax over the dot products; None: the own prototype alone.
    """
    if temperature is None:
        return functional.one_hot(labels, len(centroids)).float()
    return torch.softmax(centroids[labels] @ centroids.T / temperature, dim=1)


def prototype_loss(
    vectors: torch.Tensor, prototypes: torch.Tensor, log_scale: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Mean cross entropy of the rows' similarities to all prototypes, nats; the prototypes and targets are constants.

    Args:
        vectors: of length 1, `(rows, width)`.
        prototypes: `(clusters, width)`.
        targets: `(rows, clusters)`, as of `soft_targets`.
    """
    logits = log_scale.exp() * vectors @ prototypes.detach().T
    return functional.cross_entropy(logits, targets.detach())
