"""The road without a server: jobs are taken from the ledger itself."""
