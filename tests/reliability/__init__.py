"""An attack that stays: kills, full disks, several writers, hostile files and wrong arguments.

``pytest tests/reliability --trials 10`` tries ten times as much as a run of all tests does.
"""
