"""Axes: what each dimension of each weight means, one small table per family of architectures.

All surgery stands on these tables and knows nothing else about architectures. To teach warmstart a new architecture,
write a file like `gpt2.py` with one `Table`, add it to `TABLES` below, and add the model to the list in
`tests/models/axes/test_tables.py`: that test builds the model with sizes that all differ and compares every dimension
with its axis, so that a wrong table cannot pass.
"""

from __future__ import annotations

from transformers import PretrainedConfig

from warmstart.errors import ModelError, nearest
from warmstart.models.axes.bert import BERT, ROBERTA
from warmstart.models.axes.gpt2 import GPT2
from warmstart.models.axes.llama import LLAMA, QWEN3
from warmstart.models.axes.table import Axis, Fields, Found, Sizes, Table, Tied, Weight
from warmstart.models.axes.vit import VIT

__all__ = ["TABLES", "Axis", "Fields", "Found", "Sizes", "Table", "Tied", "Weight", "table_for"]

TABLES: dict[str, Table] = {
    model_type: table for table in (GPT2, LLAMA, QWEN3, BERT, ROBERTA, VIT) for model_type in table.model_types
}


def table_for(config: PretrainedConfig) -> Table:
    """The table of a configuration's architecture.

    Raises:
        ModelError: there is no table for it; the message lists those that exist and says how to add one.
    """
    kind = getattr(config, "model_type", "") or type(config).__name__
    if kind not in TABLES:
        raise ModelError(
            f"there is no axes table for the architecture '{kind}'{nearest(kind, TABLES)}; tables exist for "
            f"{', '.join(sorted(TABLES))}; to add one, write a file like warmstart/models/axes/gpt2.py"
        )
    return TABLES[kind]
