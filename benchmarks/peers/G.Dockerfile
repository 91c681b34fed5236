# uv's guide: multi-stage, the project installed in the virtual environment, which is copied whole.
ARG BASE=python:3.13-slim
ARG UV=ghcr.io/astral-sh/uv
FROM $UV AS uv

FROM $BASE AS builder
COPY --from=uv /uv /bin/uv
ARG BYTECODE=1 UV_DEFAULT_INDEX
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=$BYTECODE UV_PYTHON_DOWNLOADS=0 UV_SYSTEM_CERTS=1
WORKDIR /app
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,source=uv.lock,target=uv.lock \
    --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    uv sync --locked --no-install-project --no-editable --no-dev
COPY . /app
RUN --mount=type=cache,target=/root/.cache/uv uv sync --locked --no-editable --no-dev

FROM $BASE
WORKDIR /app
COPY --from=builder --chown=65532:65532 /app/.venv /app/.venv
ENV PATH="/app/.venv/bin:$PATH" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
