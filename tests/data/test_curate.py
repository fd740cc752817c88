"""Curation steps on columns."""

from __future__ import annotations

from warmstart.data.curate.exact_duplicates import ExactDuplicates


def test_keeps_the_first_of_equal_texts_over_all_batches() -> None:
    step = ExactDuplicates().start()
    assert step({"text": ["a b", "c", "a  b\n"], "id": [1, 2, 3]}) == {"text": ["a b", "c"], "id": [1, 2]}
    assert step({"text": ["c ", "d"], "id": [4, 5]}) == {"text": ["d"], "id": [5]}
    assert ExactDuplicates().start()({"text": ["c"]}) == {"text": ["c"]}


def test_works_as_a_step_of_datasets() -> None:
    import datasets

    data = datasets.Dataset.from_dict({"text": ["a", "b", "a"], "n": [1, 2, 3]})
    kept = data.map(ExactDuplicates().start().__call__, batched=True, batch_size=2, load_from_cache_file=False)
    assert kept["n"][:] == [1, 2]
