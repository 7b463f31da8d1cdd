"""Reliability tests: kills, full disks, several writers, hostile files and wrong arguments.

``pytest tests/reliability --trials 10`` runs ten times as many trials as by default.
"""
