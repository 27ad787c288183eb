"""The inbox: what a person has in-app, in an order and with numbers on which list, count and stream agree.

The in-app message is the notification's own row. Each change of what is in an inbox takes the next number of the inbox's
counter row, in the transaction that makes the change: never from a SEQUENCE, whose numbers are taken before they are
committed, so that somebody who has read number 8 would miss a 7 that comes later.
"""
