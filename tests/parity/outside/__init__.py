"""Suites and oracles that others wrote, as cases that ours is run through.

``suite.py`` says what a suite is, ``test_outside.py`` above runs them and holds the table in
``docs/outside-suites.md`` against what came out.
"""
