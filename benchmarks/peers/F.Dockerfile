# The fastest by hand: uv's binary from an image, dependencies synced from the lock with a cache mount, then the sources.
ARG BASE=python:3.13-slim
ARG UV=ghcr.io/astral-sh/uv
ARG LAST=plain
FROM $UV AS uv

FROM $BASE AS builder
COPY --from=uv /uv /bin/uv
ARG BYTECODE=1 UV_DEFAULT_INDEX
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=$BYTECODE UV_PYTHON_DOWNLOADS=0 UV_SYSTEM_CERTS=1
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --locked --no-install-project --no-dev

FROM $BASE AS plain

# Another base for the last stage, which has bytecode of all that hatch-docker compiles.
FROM $BASE AS compiled
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
    -x '/(site-packages|tkinter|idlelib|turtledemo)/' "$(python -c 'import os; print(os.path.dirname(os.__file__))')"

FROM $LAST
WORKDIR /app
COPY --from=builder --chown=65532:65532 /app/.venv /app/.venv
COPY --chown=65532:65532 src /app/src
ENV PATH="/app/.venv/bin:$PATH" PYTHONPATH=/app/src PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
