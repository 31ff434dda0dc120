"""Faults to plant, and the gate that demands that the tests notice each of them."""
