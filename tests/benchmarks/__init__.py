"""What a user feels and what a server's admin pays, beside what they would otherwise use: ``python -m tests.benchmarks``.

No test: nothing fails where a machine is slow. Each module measures a few figures and gives rows of one table.
All clients are fed the same bytes by a server in a process of its own, and take turns, so that what the machine
does meanwhile falls on all of them; a ratio is the median of the ratios of the rounds.
"""
