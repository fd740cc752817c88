"""What a training asks of a cluster, before it is started: memory, time, bytes to move and to write.

    shape.py           the sizes of a model, exactly, from its configuration (no memory is taken)
    live.py            bytes of tensors that are alive while something runs
    activations.py     what a micro-batch needs: the model's own code, run on tensors without memory
    memory.py          what every process holds in a step, by kind
    compute.py         FLOPs of a token, seconds of a step
    communication.py   bytes that processes hand each other, and how long that takes
    saving.py          bytes and seconds of a saved state; how often to save; what failures cost
    data.py            bytes and seconds of prepared tokens
    growing.py         bytes and seconds of growing a checkpoint
    machine.py         rates of hardware: published ones, assumed ones
    outlook.py         all of it for one step, and which settings fit
    words.py           the same for a recipe, as `warmstart check --processes` says it

Everything is bytes, seconds and FLOPs; nothing is rounded. Each formula has a test against a measured small case
(tests/forecast/cluster). What comes out of them for two large trainings: docs/scale.md.
"""
