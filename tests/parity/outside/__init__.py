"""Test suites and reference implementations of other projects, run on this package.

``suite.py`` defines a suite. ``../test_outside.py`` runs them and compares the outcomes with the
table in ``docs/outside-suites.md``.
"""
