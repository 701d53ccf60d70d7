"""Whether real training runs reach the quality of the same model in Keras. See benches/README.md."""
