"""Faults in numbers: many of a kind, at random, with what must hold checked from outside."""
