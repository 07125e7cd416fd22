"""Workflows in the ledger: what follows a step commits with the step's own finish.

graph.py      a workflow as data: its steps, what they wait for, what they take
states.py     the states of a flow and of its steps
advance.py    given the states, what happens next; pure
drive.py      makes it happen in a transaction: start, settle, signal, wake, cancel, retry
store.py      what that asks of a database
views.py      what people and programs ask of flows
"""
