# syntax=docker/dockerfile:1
# One image a kind of host. Artifacts for processors are built in; torch stays behind in the builder,
# except in `gpu`, which serves with it:
#   docker build --target cpu     -t mnv4serve:0.1.0-cpu .       processors, the local engine
#   docker build --target ray     -t mnv4serve:0.1.0-ray .       the same, with Ray
#   docker build --target gpu     -t mnv4serve:0.1.0-gpu .       NVIDIA GPUs, with Ray
#   docker build --target edgetpu -t mnv4serve:0.1.0-edgetpu .   Coral, with Ray; needs four arguments
# The state folder is a volume so that the root file system may be read-only. Its artifacts belong
# to the image that it was filled from: a new version wants a new volume.
#   docker run --rm -p 8000:8000 -p 9000:9000 --read-only --tmpfs /tmp \
#     -v mnv4serve-0.1.0-cpu:/var/lib/mnv4serve mnv4serve:0.1.0-cpu
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
RUN /opt/build/bin/mnv4serve build --state-dir /var/lib/mnv4serve

# Google's compiler cannot be had from a package index: give its package's address, for example
# below packages.cloud.google.com/apt/pool/coral-edgetpu-stable, and its sha256. The simulated
# device stands for the real one, which no builder has; what is built is the same.
FROM artifacts AS artifacts-edgetpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG EDGETPU_COMPILER_DEB
ARG EDGETPU_COMPILER_SHA256
# hadolint ignore=DL3008
RUN test -n "$EDGETPU_COMPILER_DEB" -a -n "$EDGETPU_COMPILER_SHA256" \
      || { echo 'give --build-arg EDGETPU_COMPILER_DEB=https://... and EDGETPU_COMPILER_SHA256=...' >&2; exit 1; } \
    && apt-get update && apt-get install --yes --no-install-recommends wget \
    && wget -q -O /tmp/compiler.deb "$EDGETPU_COMPILER_DEB" \
    && echo "$EDGETPU_COMPILER_SHA256  /tmp/compiler.deb" | sha256sum --check \
    && apt-get install --yes --no-install-recommends /tmp/compiler.deb \
    && rm -rf /tmp/compiler.deb /var/lib/apt/lists/*
RUN MNV4SERVE_POOLS='[{"device": "edgetpu:simulated-usb3", "backends": ["edgetpu"]}]' \
    /opt/build/bin/mnv4serve build --state-dir /var/lib/mnv4serve

# ---- one environment a kind of host
FROM source AS environment-cpu
RUN python -m venv /opt/mnv4serve && /opt/mnv4serve/bin/pip install '.[onnx,litert]'

FROM source AS environment-ray
RUN python -m venv /opt/mnv4serve && /opt/mnv4serve/bin/pip install '.[onnx,litert,ray]'

# Artifacts for a GPU are proven on a GPU, which no builder has: `mnv4serve build` makes them where
# the image runs, and needs onnx beside the torch that serves.
FROM source AS environment-gpu
RUN python -m venv /opt/mnv4serve \
    && /opt/mnv4serve/bin/pip install '.[gpu,ray]' "$(grep '^onnx==' constraints.txt)"

# ---- what every image has
FROM python:${PYTHON}-slim AS runtime
ARG VERSION
LABEL org.opencontainers.image.title="mnv4serve" \
      org.opencontainers.image.description="Image classification within a latency budget" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# wget: our health check and KubeRay's probes
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 mnv4serve
ENV PATH=/opt/mnv4serve/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    MNV4SERVE_STATE_DIR=/var/lib/mnv4serve \
    MNV4SERVE_HOST=0.0.0.0
WORKDIR /home/mnv4serve
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=2s --start-period=60s \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/healthz"]
ENTRYPOINT ["mnv4serve"]
CMD ["serve"]

# ---- the images
FROM runtime AS gpu
COPY --from=artifacts --chown=mnv4serve /var/lib/mnv4serve /var/lib/mnv4serve
COPY --from=environment-gpu /opt/mnv4serve /opt/mnv4serve
USER 10001

# Google's own runtime library is too old for today's LiteRT: give the address of a build for
# TensorFlow 2.16 or later, for example from github.com/feranick/libedgetpu, and its sha256.
FROM runtime AS edgetpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG LIBEDGETPU_DEB
ARG LIBEDGETPU_SHA256
COPY --from=artifacts-edgetpu --chown=mnv4serve /var/lib/mnv4serve /var/lib/mnv4serve
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
COPY --from=artifacts --chown=mnv4serve /var/lib/mnv4serve /var/lib/mnv4serve
COPY --from=environment-ray /opt/mnv4serve /opt/mnv4serve
USER 10001

FROM runtime AS cpu
COPY --from=artifacts --chown=mnv4serve /var/lib/mnv4serve /var/lib/mnv4serve
COPY --from=environment-cpu /opt/mnv4serve /opt/mnv4serve
USER 10001
