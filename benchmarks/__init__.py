"""Hareline beside Dramatiq alone and Celery, on the same RabbitMQ, in one interleaved run."""
