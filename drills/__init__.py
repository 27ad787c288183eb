"""Fault drills: real processes are killed, frozen and lied to, and a judge that trusts no one of ours counts.

`python -m drills list` says which there are; docs/reliability.md says what they prove and how to run them.
"""
