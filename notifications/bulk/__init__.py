"""Bulk: from a file, or all recipients of a project, to the rows of a batch.

    sources.py -> reading.py -> checking.py -> placing.py -> examining.py    what would be sent, and what is wrong
                                                          \\-> loading.py     the rows, stored

A source is read twice: once to check all of it, before anything is stored, and once to store it. What a batch is and
how it moves: notifications/batches.py.
"""
