"""Tables from the rows that the Transformer Ablation Benchmark recorded or that were published.

`load` reads and checks files, `metrics` turns samples into medians, ratios and noise, `tables` lays
them out; `python -m ablation_report` does all three.
"""

from __future__ import annotations

__version__ = "0.1.0"
