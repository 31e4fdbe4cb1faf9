"""Measures what the proxy adds: the same requests directly and through it, in turn, within one run.

stats.py and reading.py are pure; load.py sends, setup.py starts what is to be measured where the user names nothing,
compare.py runs the rounds, report.py writes them down.
"""
