"""Curation steps on columns."""

from __future__ import annotations

from warmstart.data.curate.exact_duplicates import ExactDuplicates


def test_keeps_the_first_of_equal_texts_over_all_batches() -> None:
    step = ExactDuplicates().stream()
    assert step({"text": ["a b", "c", "a  b\n"], "id": [1, 2, 3]}) == {"text": ["a b", "c"], "id": [1, 2]}
    assert step({"text": ["c ", "d"], "id": [4, 5]}) == {"text": ["d"], "id": [5]}
    assert ExactDuplicates().stream()({"text": ["c"]}) == {"text": ["c"]}


def test_works_as_a_step_of_datasets() -> None:
    import datasets

    data = datasets.Dataset.from_dict({"text": ["a", "b", "a"], "n": [1, 2, 3], "row": [0, 1, 2]})
    step = ExactDuplicates()
    measured = data.map(step.measure, batched=True, batch_size=2, remove_columns=data.column_names)
    fitted = step.fit(measured.iter(batch_size=2))
    kept = data.map(lambda rows: step.apply(rows, fitted), batched=True, batch_size=2, load_from_cache_file=False)
    assert kept["n"][:] == [1, 2]
