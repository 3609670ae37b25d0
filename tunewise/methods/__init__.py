"""Ways of adapting a model, one file each; discovered, never listed by hand.

A method is a frozen dataclass whose fields are its hyper-parameters. Put a file into this folder, or name a class
under the entry point `tunewise.methods`, and it stands in the contest, the CLI's help, the docs and the report.

>>> get("lora")(learning_rate=5e-4).fit(start, train, validation, trial)
"""

from tunewise.methods.base import Method, Trial, Verdict
from tunewise.methods.registry import get, load_predictor, names, obstacle, registered

__all__ = ["Method", "Trial", "Verdict", "get", "load_predictor", "names", "obstacle", "registered"]
