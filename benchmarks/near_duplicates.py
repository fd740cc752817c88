"""How fast are near-identical texts found, and how many of them, next to datatrove's MinHash pipeline?

    python benchmarks/near_duplicates.py             # about three minutes on two cores; needs warmstart[data]

Rows: texts of 100 to 500 words drawn by their frequency in Python's standard library, so that no two are alike by
accident; to a third of them a copy is added in which one to thirty words in a hundred are replaced. The similarity of
each pair (Jaccard, 5-grams of words) is computed exactly. Both sides have 14 bands of 8 hashes, the defaults of both,
and the same splitting into words (datatrove's own is spaCy's, which would make it several times slower).

Both run from rows in memory to the numbers of the rows to drop, in one process and one thread, and take turns in an
order drawn anew each round; datatrove writes its signatures to a folder in memory (/dev/shm where there is one), as it
must. Ratios are taken within a round, of CPU time: other people's processes disturb it less than the clock. The answer
is the median ratio with a bootstrap interval over rounds. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import xxhash

from warmstart.data.curate.near_duplicates import NearDuplicates
from warmstart.data.curate.quality_filter import words
from warmstart.data.sources.python_stdlib import PythonStdlib

BATCH = 256
BINS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
Find = Callable[[list[str]], set[int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    vocabulary = Counter(
        word for row in PythonStdlib().rows() for word in re.findall(r"[a-z]{2,}", row["text"].lower())
    )
    contestants: dict[str, Find] = {"warmstart": with_warmstart, "datatrove": with_datatrove}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    clock: dict[str, list[float]] = {name: [] for name in contestants}
    hits: dict[str, Counter[float]] = {name: Counter() for name in contestants}
    wrong: Counter[str] = Counter()
    pairs: Counter[float] = Counter()
    agree = total = 0
    for number in range(-1, args.rounds):  # the first round only warms up
        generator = random.Random(number)
        texts, truth = rows(vocabulary, args.rows, generator)
        found: dict[str, set[int]] = {}
        for name in generator.sample(list(contestants), 2):
            start, began = time.process_time(), time.perf_counter()
            found[name] = contestants[name](texts)
            if number >= 0:
                seconds[name].append(time.process_time() - start)
                clock[name].append(time.perf_counter() - began)
        if number < 0:
            continue
        for name, dropped in found.items():
            wrong[name] += len(dropped - set(truth))
        for copy, similarity in truth.items():
            bin_ = next((top for top in BINS if similarity <= top), 1.0)
            pairs[bin_] += 1
            for name, dropped in found.items():
                hits[name][bin_] += copy in dropped
        agree += sum((row in found["warmstart"]) == (row in found["datatrove"]) for row in truth)
        total += len(truth)
    report(args.rows, seconds, clock, hits, pairs, wrong, agree / total)


def rows(vocabulary: Counter[str], count: int, generator: random.Random) -> tuple[list[str], dict[int, float]]:
    """Texts, and the similarity to its original of each that is a copy."""
    names, weights = list(vocabulary), list(vocabulary.values())
    originals = [generator.choices(names, weights, k=generator.randint(100, 500)) for _ in range(count * 3 // 4)]
    texts, truth = [" ".join(words_) for words_ in originals], {}
    for original in originals[: count - len(originals)]:
        copy = list(original)
        for place in generator.sample(range(len(copy)), round(len(copy) * generator.uniform(0.003, 0.15))):
            copy[place] = generator.choices(names, weights)[0]
        one, two = ({tuple(text[n : n + 5]) for n in range(len(text) - 4)} for text in (original, copy))
        truth[len(texts)] = len(one & two) / len(one | two)
        texts.append(" ".join(copy))
    return texts, truth


def with_warmstart(texts: list[str]) -> set[int]:
    step = NearDuplicates()
    batches = [
        {"text": texts[start : start + BATCH], "row": list(range(start, min(start + BATCH, len(texts))))}
        for start in range(0, len(texts), BATCH)
    ]
    fitted = step.fit(step.measure(batch) for batch in batches)
    return set(range(len(texts))) - {row for batch in batches for row in step.apply(batch, fitted)["row"]}


def with_datatrove(texts: list[str]) -> set[int]:
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.logging import logger
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Words(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return words(text)

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    logger.remove()
    shared_memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="near-duplicates-", dir=shared_memory if shared_memory.is_dir() else None))
    try:
        signatures, buckets, removed = (str(folder / name) for name in ("signatures", "buckets", "removed"))
        config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
        documents = (Document(text=text, id=str(row)) for row, text in enumerate(texts))
        signature = MinhashDedupSignature(signatures, config, language=Words())
        # datatrove 0.10.1 hands text to xxhash, which takes only bytes since version 4; its other hash is slower.
        signature._hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())
        signature.run(documents)
        for rank in range(14):
            MinhashDedupBuckets(signatures, buckets, config=config).run(None, rank, 14)
        MinhashDedupCluster(buckets, removed, config=config).run(None, 0, 1)
        content = (folder / "removed" / "000000.remove").read_bytes()
        return set(struct.unpack(f"<{len(content) // 4}I", content))
    finally:
        shutil.rmtree(folder)


def report(
    count: int,
    seconds: dict[str, list[float]],
    clock: dict[str, list[float]],
    hits: dict[str, Counter[float]],
    pairs: Counter[float],
    wrong: Counter[str],
    agreement: float,
) -> None:
    for name, times in seconds.items():
        rates = sorted(count / value for value in times)
        wall = statistics.median(count / value for value in clock[name])
        print(
            f"{name}: {statistics.median(rates):,.0f} rows a second of CPU time ({rates[0]:,.0f} .. {rates[-1]:,.0f}), "
            f"{wall:,.0f} by the clock; {wrong[name]} rows dropped that are no copies"
        )
    low = 0.0
    for top in BINS:
        if pairs[top]:
            shares = ", ".join(f"{name} {hits[name][top] / pairs[top]:.3f}" for name in hits)
            print(f"similarity {low:.1f} to {top:.1f}: {pairs[top]} copies; found by {shares}")
        low = top
    ratios = [two / one for one, two in zip(seconds["warmstart"], seconds["datatrove"], strict=True)]
    generator = random.Random(0)
    resampled = sorted(statistics.median(generator.choices(ratios, k=len(ratios))) for _ in range(2000))
    answer = {
        "times_datatrove": round(statistics.median(ratios), 2),
        "interval": [round(resampled[50], 2), round(resampled[-51], 2)],
        "same_decision": round(agreement, 4),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
