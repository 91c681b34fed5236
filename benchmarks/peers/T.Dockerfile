# The usual advice of talks: multi-stage with pip, a virtual environment, and tests and bytecode removed after it.
ARG BASE=python:3.13-slim
FROM $BASE AS builder
ARG BYTECODE=1 PIP_INDEX_URL
WORKDIR /app
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir -U pip setuptools
COPY requirements.txt .
RUN .venv/bin/pip install --no-cache-dir -r requirements.txt && \
    find /app/.venv -type d \( -name test -o -name tests \) -prune -exec rm -rf '{}' + && \
    { [ "$BYTECODE" = 1 ] || find /app/.venv -name '*.pyc' -delete; }

FROM $BASE
WORKDIR /app
COPY --from=builder /app/.venv /app/.venv
COPY src /app/src
ENV PATH="/app/.venv/bin:$PATH" PYTHONPATH=/app/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
