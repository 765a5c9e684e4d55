"""Data parallel training of the language model by PyTorch's DistributedDataParallel.

`python -m ablation_executor.bench.suites.lm_step.parallel --processes 2 --size tiny` measures a
step of all processes and one of a single process, with the same batch and threads each. The
processes are on this machine, and no other machine can reach them. The suite starts the same module
and asks it step by step.

`torchrun [...] -m ablation_executor.bench.suites.lm_step.parallel --size tiny` does the same on
several machines, by torchrun's own options. Its processes take connections from every network that
their machine is in, without a password: use it only where all machines of these networks are
trusted.
"""
