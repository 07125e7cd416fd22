"""How messages travel: an AMQP 0-9-1 transport that knows nothing of jobs, the ledger or Dramatiq.

topology     which queues there are, as data
connection   one I/O thread and one connection, for ever
publisher    any thread hands in messages; confirms come back in batches
consumer     deliveries come out; acks may come from any thread
management   counts, purges and a probe, for operators
reading      what it says of its queues at one moment; watch looks again and again
"""
