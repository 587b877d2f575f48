"""How fast, how small, how soon: one file per question, `python -m benchmarks` for all of them."""
