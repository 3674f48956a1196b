# syntax=docker/dockerfile:1
# One image a kind of host; the artifacts are built in, torch stays behind in the builder:
#   docker build --target cpu     -t mnv4serve:0.1.0-cpu .          processors, the local engine
#   docker build --target ray     -t mnv4serve:0.1.0-ray .          the same, with Ray
#   docker build --target gpu     -t mnv4serve:0.1.0-gpu-ray .      NVIDIA GPUs, with Ray
#   docker build --target edgetpu -t mnv4serve:0.1.0-edgetpu .      Coral; needs LIBEDGETPU_DEB, see below
#   docker run --rm -p 8000:8000 -p 9000:9000 --read-only --tmpfs /tmp -v mnv4serve:/var/lib/mnv4serve mnv4serve:0.1.0-cpu
ARG PYTHON=3.11
ARG VERSION=0.1.0

# ---- what every environment is made with
FROM python:${PYTHON}-slim AS source
ENV PIP_CONSTRAINT=/src/constraints.txt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
COPY . .

# ---- reference + weights -> verified artifacts; the only stage with torch, from PyTorch's own
# index where it can be reached, because PyPI's wheel carries gigabytes of CUDA
FROM source AS artifacts
RUN python -m venv /opt/build \
    && { /opt/build/bin/pip install --no-deps --retries 0 --timeout 3 \
           --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' constraints.txt)" \
         || true; } \
    && /opt/build/bin/pip install '.[onnx,litert,build]'
RUN /opt/build/bin/mnv4serve build --state-dir /opt/state

# ---- one environment a kind of host
FROM source AS environment-cpu
RUN python -m venv /opt/mnv4serve && /opt/mnv4serve/bin/pip install '.[onnx,litert]'

FROM source AS environment-ray
RUN python -m venv /opt/mnv4serve && /opt/mnv4serve/bin/pip install '.[onnx,litert,ray]'

FROM source AS environment-gpu
RUN python -m venv /opt/mnv4serve && /opt/mnv4serve/bin/pip install '.[gpu,ray]'

# ---- what every image has
FROM python:${PYTHON}-slim AS runtime
ARG VERSION
LABEL org.opencontainers.image.title="mnv4serve" \
      org.opencontainers.image.description="Image classification within a latency budget" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# wget: KubeRay's probes; the state folder is a volume so that the root file system may be read-only
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 mnv4serve \
    && install --directory --owner mnv4serve /var/lib/mnv4serve
COPY --from=artifacts --chown=mnv4serve /opt/state /opt/state
ENV PATH=/opt/mnv4serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MNV4SERVE_STATE_DIR=/opt/state \
    MNV4SERVE_HOST=0.0.0.0
WORKDIR /home/mnv4serve
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=2s --start-period=60s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/healthz"]
ENTRYPOINT ["mnv4serve"]
CMD ["serve"]

# ---- the images
FROM runtime AS gpu
COPY --from=environment-gpu /opt/mnv4serve /opt/mnv4serve
USER 10001

# Google's own library is too old for today's LiteRT: give the address of a build for TensorFlow
# 2.16 or later, for example from github.com/feranick/libedgetpu, and its sha256.
FROM runtime AS edgetpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG LIBEDGETPU_DEB
ARG LIBEDGETPU_SHA256
COPY --from=environment-ray /opt/mnv4serve /opt/mnv4serve
# hadolint ignore=DL3008
RUN test -n "$LIBEDGETPU_DEB" -a -n "$LIBEDGETPU_SHA256" \
      || { echo 'give --build-arg LIBEDGETPU_DEB=https://... and LIBEDGETPU_SHA256=...' >&2; exit 1; } \
    && wget -q -O /tmp/libedgetpu.deb "$LIBEDGETPU_DEB" \
    && echo "$LIBEDGETPU_SHA256  /tmp/libedgetpu.deb" | sha256sum --check \
    && apt-get update && apt-get install --yes --no-install-recommends /tmp/libedgetpu.deb \
    && rm -rf /tmp/libedgetpu.deb /var/lib/apt/lists/*
USER 10001

FROM runtime AS ray
COPY --from=environment-ray /opt/mnv4serve /opt/mnv4serve
USER 10001

FROM runtime AS cpu
COPY --from=environment-cpu /opt/mnv4serve /opt/mnv4serve
USER 10001
