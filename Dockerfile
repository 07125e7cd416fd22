FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock .
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.lock
COPY . .
RUN python -m hatchling build -t wheel

FROM python:3.11-slim
RUN useradd --create-home hareline
COPY requirements.run.lock .
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements.run.lock
COPY --from=build /src/dist/*.whl /tmp/
RUN pip install --no-cache-dir --no-deps /tmp/*.whl
USER hareline
WORKDIR /home/hareline
# A volume that is mounted there gets its owner.
RUN mkdir .hareline
ENV PYTHONUNBUFFERED=1
# SIGTERM reaches the supervisor, which stops its workers in good order.
ENTRYPOINT ["hareline"]
CMD ["worker"]
