"""Teachers of captions: a vector for each caption from something else than the model that trains.

`tf-idf` is the cheapest: counts of words and word pairs, weighted, in 64 dimensions by a truncated singular value
decomposition. A model is asked for the mean of its tokens' last hidden states (padding left out), reduced to 64
dimensions by principal components. A `.npy` file holds one row for each training row, whatever made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from warmstart.data.arrays import given_array
from warmstart.errors import DataError

DIMENSIONS = 64
TF_IDF = "tf-idf"


def teacher_vectors(teacher: str, texts: Sequence[str], seed: int = 0) -> tuple[np.ndarray, float]:
    """A vector of each text, float32 `(texts, dimensions)`, of length 1 where it is not 0; and what a model's cost in
    FLOPs (0 for the other kinds).

    Args:
        teacher: `tf-idf`, a `.npy` file, or a model folder or hub id.

    Raises:
        DataError: a file that cannot be read or has not a row for each text; too few texts.
        ModelError: there is no such model.
    """
    if teacher == TF_IDF:
        return tf_idf(texts, seed=seed), 0.0
    if teacher.endswith(".npy"):
        return given_vectors(Path(teacher), len(texts)), 0.0
    return model_vectors(teacher, texts)


def tf_idf(texts: Sequence[str], dimensions: int = DIMENSIONS, seed: int = 0) -> np.ndarray:
    """Latent semantic vectors of texts: float32 `(texts, dimensions)`, fewer where the texts have fewer words."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        try:
            counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts)
        except ValueError as error:
            raise DataError(f"teacher tf-idf: {error}") from error
        size = min(dimensions, min(counts.shape) - 1)
        if size < 1:
            raise DataError("teacher tf-idf: the captions have fewer than two different words")
        return _unit(TruncatedSVD(size, random_state=seed % 2**32).fit_transform(counts))


def given_vectors(file: Path, rows: int) -> np.ndarray:
    """The vectors of a file, one for each training row: float32 `(rows, width)`.

    Raises:
        DataError: it cannot be read, is no matrix of numbers, or has not so many rows.
    """
    found = given_array(file, "teacher")
    return checked_vectors(found, rows, str(file))


def checked_vectors(found: np.ndarray, rows: int, name: str) -> np.ndarray:
    """A teacher's matrix, where it fits the data.

    Raises:
        DataError: it does not.
    """
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise DataError(f"teacher: {name} must be a matrix of numbers, found {found.dtype} of shape {found.shape}")
    if len(found) != rows:
        raise DataError(f"teacher: {name} has {len(found)} rows, but there are {rows} training rows")
    return found.astype(np.float32)


def model_vectors(name: str, texts: Sequence[str], batch_size: int = 64, length: int = 128) -> tuple[np.ndarray, float]:
    """Mean hidden states of a model on the texts, by principal components; and their FLOPs, two for each weight that is
    no embedding and each token."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    from warmstart.models.load import load_model
    from warmstart.models.tokenizer import load_tokenizer

    model, tokenizer = load_model(name, "none").eval(), load_tokenizer(name)
    found, tokens = [], 0
    for start in range(0, len(texts), batch_size):
        some = list(texts[start : start + batch_size])
        given = tokenizer(some, padding=True, truncation=True, max_length=length, return_tensors="pt")
        mask = given["attention_mask"]
        with torch.no_grad():
            states = model(input_ids=given["input_ids"], attention_mask=mask).last_hidden_state
        found.append((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))
        tokens += mask.numel()
    vectors = _unit(torch.cat(found).numpy())
    with threadpool_limits(1):
        kept = PCA(min(DIMENSIONS, *vectors.shape), random_state=0).fit_transform(vectors)
    embedding = model.get_input_embeddings().weight.numel()
    return kept.astype(np.float32), 2.0 * (model.num_parameters() - embedding) * tokens


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
