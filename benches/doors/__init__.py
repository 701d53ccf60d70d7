"""The subjects of `run.py` that ask what a client of Volary waits for: rows in and out, one answer, Spark."""
