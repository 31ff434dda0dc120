"""The main job on real input: a survey of the standard library, a job for each file. `scripts/demo` runs it."""
