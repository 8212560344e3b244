# Two images from one wheel: `docker build --target tap .` and `docker build --target operator .`
# Both run as a numeric non-root user, write nothing to their root file system and need no shell.
ARG PYTHON_VERSION=3.12.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md constraints.txt ./
COPY operator operator
COPY serving serving
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/constraints.txt

FROM base AS tap
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt "latentry[tap] @ file:///wheels/latentry-0.1.0-py3-none-any.whl"
USER 65532:65532
EXPOSE 8080 9000 9400
ENTRYPOINT ["python", "-m", "latentry_serving", "tap"]
CMD ["--config", "/etc/latentry/tap.yaml"]

FROM base AS operator
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt "latentry[operator] @ file:///wheels/latentry-0.1.0-py3-none-any.whl"
USER 65532:65532
ENTRYPOINT ["latentry"]
CMD ["--help"]
