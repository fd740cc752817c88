"""Does a corpus that is ten times larger than the memory at hand stream through?

    python benchmarks/memory.py                        # 40 MB of memory, a corpus of 400 MB; about ten minutes
    python benchmarks/memory.py --allow 20 --times 5

A child process imports everything, then forbids itself (RLIMIT_DATA: heap and private mappings, not the page cache)
more than `--allow` MB on top of what it holds, and turns a JSON Lines file of `--times` that size into packed blocks
with the default settings, exact duplicates dropped. First it shows that the limit bites: reading the file whole must
fail. The last line is JSON: {"corpus_mb", "allowed_mb", "grown_mb", "held": true or false}.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allow", type=int, default=40, help="MB on top of what the imports hold")
    parser.add_argument("--times", type=float, default=10.0, help="how many times larger the corpus is")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.allow)
        return
    with tempfile.TemporaryDirectory(prefix="warmstart-memory-") as scratch:
        file = Path(scratch) / "corpus.jsonl"
        write(file, int(args.allow * args.times * 1e6))
        environment = {
            **os.environ,
            "WARMSTART_CACHE": f"{scratch}/cache",
            "TOKENIZERS_PARALLELISM": "false",  # each thread's stack would count as memory
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",
        }
        command = [sys.executable, __file__, "--child", str(file), "--allow", str(args.allow)]
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)


def write(file: Path, size: int) -> None:
    """Documents of about 2 kB in words of a made-up language, all different."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(2, 9))) for _ in range(5000)]
    done = number = 0
    with file.open("w", encoding="utf-8") as out:
        while done < size:
            line = json.dumps(
                {"text": f"{number} " + " ".join(draw.choices(words, k=300)), "url": f"h{number % 97}.org"}
            )
            out.write(line + "\n")
            done += len(line) + 1
            number += 1


def child(file: Path, allow: int) -> None:
    import resource

    from warmstart.data.prepare import prepare
    from warmstart.models.tokenizer import train_tokenizer
    from warmstart.recipe_data import Data

    with file.open(encoding="utf-8") as lines:
        first = [json.loads(next(lines))["text"] for _ in range(50)]
    tokenizer = train_tokenizer(first, 1000, "causal")
    small = file.with_name("small.jsonl")  # everything that is loaded lazily is loaded now
    small.write_text("".join(json.dumps({"text": text, "url": "a"}) + "\n" for text in first), encoding="utf-8")
    prepare(data_of(Data, small), tokenizer)
    limit = held() + allow * 10**6
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    before = held()
    try:
        file.read_bytes()
        sys.exit("the limit does not bite: the whole file fits")
    except MemoryError:
        pass
    began = time.perf_counter()
    prepared = prepare(data_of(Data, file), tokenizer, notify=print)
    size = file.stat().st_size / 1e6
    tokens = prepared.statistics["train_tokens"] + prepared.statistics["validation_tokens"]
    print(f"{size:.0f} MB, {tokens:,} tokens in {time.perf_counter() - began:.0f} s")
    grown = (held() - before) / 1e6
    print(json.dumps({"corpus_mb": round(size), "allowed_mb": allow, "grown_mb": round(grown, 1), "held": True}))


def data_of(data: type, file: Path):  # type: ignore[no-untyped-def]
    return data(source={"type": "files", "path": str(file), "columns": ["url"]}, length=128, split={"validation": 0.1})


def held() -> int:
    """Bytes of heap and private mappings: what RLIMIT_DATA counts."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark needs Linux: there is no VmData in /proc/self/status")


if __name__ == "__main__":
    main()
