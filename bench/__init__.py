"""What jobrunner costs, beside the raw limits of the machine and other programs: `scripts/bench` runs it.

A row is a function with the decorator `measure`; every round runs each of them once, in a process of its own.
"""
