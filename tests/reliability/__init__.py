"""Reliability tests: kills, full disks, several writers, hostile files and wrong arguments.

``pytest tests/reliability --trials 10`` runs all of them, with ten times as many trials as
by default.
"""
