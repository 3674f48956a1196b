# syntax=docker/dockerfile:1
# Serves on the CPU. The builder has torch and turns weights into verified artifacts; the runtime
# carries the artifacts and no torch. Linted with hadolint, not yet run: see the README.
#   docker build -t mnv4serve . && docker run --rm -p 8000:8000 -p 9000:9000 mnv4serve

FROM python:3.11-slim AS builder
WORKDIR /src
COPY . .
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The runtime's packages stand in their own environment; the builder's come on top elsewhere.
RUN python -m venv /opt/mnv4serve \
    && /opt/mnv4serve/bin/pip install '.[onnx,litert]'
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --index-url https://download.pytorch.org/whl/cpu \
       "$(grep '^torch==' constraints.txt)" \
    && /opt/build/bin/pip install '.[onnx,litert,build]' \
    && /opt/build/bin/mnv4serve build --state-dir /opt/state

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 mnv4serve
COPY --from=builder /opt/mnv4serve /opt/mnv4serve
COPY --from=builder --chown=mnv4serve /opt/state /opt/state
ENV PATH=/opt/mnv4serve/bin:$PATH \
    MNV4SERVE_STATE_DIR=/opt/state \
    MNV4SERVE_HOST=0.0.0.0
USER 10001
WORKDIR /home/mnv4serve
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=2s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
ENTRYPOINT ["mnv4serve"]
CMD ["serve"]
