"""The hot path: tokens and weights in; label scores, text and gradients out.

Nothing here knows of prompts, tasks or methods. Every module works on token ids and a `LanguageModel`; what is
shared by many rows (the instruction, the demonstrations, a learned prompt) is encoded once, both when scoring
and, with its gradient, when training.
"""
