"""Tasks that show what a cell can learn: functions of a generator, a batch size and lengths.

The page "The tasks of the experiments" defines each task, with its ids, an example, its source, and
what the source leaves open.
"""
