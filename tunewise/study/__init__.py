"""The search over trials under a budget: ask, fit, evaluate, tell, and at the end the one test.

Every decision is a function of counted work and recorded outcomes, in the order of trials; the clock is only a
hard stop. A study is therefore resumed by running it again: what the journal records is not done twice.
"""
