"""What Hareline tells Prometheus.

    catalogue.py    every metric, as data
    file.py         one process's numbers, in a file that outlives it
    meter.py        how a process counts
    folder.py       the files of one host, and what is left of processes that died
    exporter.py     the address at which Prometheus asks

and what Prometheus and Grafana read: rules.yml (with rules_test.yml), dashboard.json, prometheus.yml, grafana/.

Why it is not prometheus_client's multiprocess mode: docs/decisions/0024-metrics-are-settled-with-the-ledger.md.
"""
