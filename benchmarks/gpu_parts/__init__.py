"""The parts of `benchmarks/gpu.py`: each a process of its own, that tells what it found as it goes.

`runner` starts them and keeps the time, `report` is how a part tells; the others measure.
"""
