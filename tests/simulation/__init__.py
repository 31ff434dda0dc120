"""A deterministic simulation: seeded actors over the real SQL and the real roles, each step between two transactions.

What is simulated is the world around them: processes, their deaths and stops, the locks of runners, and the clock.
"""
