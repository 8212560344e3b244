# Two images from one wheel: `docker build --target tap .` and `docker build --target operator .`
# Both run as a numeric non-root user, write nothing to their root file system and need no shell.
ARG PYTHON_VERSION=3.12.12

FROM python:${PYTHON_VERSION}-slim-bookworm AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
COPY serving serving
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# An environment of its own for each image, so that neither holds the other's packages, a wheel or a cache.
FROM python:${PYTHON_VERSION}-slim-bookworm AS environment
RUN python -m venv --without-pip /opt/latentry
COPY constraints.txt /wheels/
COPY --from=wheel /wheels /wheels

FROM environment AS tap-environment
RUN set -- /wheels/*.whl && pip --python /opt/latentry install --no-cache-dir --constraint /wheels/constraints.txt "$1[tap]"

FROM environment AS operator-environment
RUN set -- /wheels/*.whl && pip --python /opt/latentry install --no-cache-dir --constraint /wheels/constraints.txt "$1[operator]"

FROM python:${PYTHON_VERSION}-slim-bookworm AS base
ENV PATH=/opt/latentry/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532

FROM base AS tap
COPY --from=tap-environment /opt/latentry /opt/latentry
EXPOSE 8080 9000 9400
ENTRYPOINT ["python", "-m", "latentry_serving", "tap"]
CMD ["--config", "/etc/latentry/tap.yaml"]

FROM base AS operator
COPY --from=operator-environment /opt/latentry /opt/latentry
ENTRYPOINT ["latentry"]
CMD ["operator"]
