"""The tests: one file a behaviour, on real files, processes and signals."""
