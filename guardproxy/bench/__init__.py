"""Measures what the proxy adds: the same requests directly and through it, in turn, within one run.

stats.py, reading.py and report.py are pure; load.py sends, compare.py runs the rounds.
"""
