# relo-edge on a Jetson with JetPack 6. The tag must be the host's release: see docs/jetson.md.
# Not built on a Jetson yet.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3-venv python3-opencv python3-libnvinfer \
      gstreamer1.0-tools gstreamer1.0-plugins-good \
 && rm -rf /var/lib/apt/lists/*

# The environment sees the system's OpenCV and TensorRT; pip installs neither.
RUN python3 -m venv --system-site-packages /opt/relo \
 && /opt/relo/bin/pip install --no-cache-dir \
      typer rich 'numpy>=1.23,<2' 'cuda-bindings>=12.6,<13' onnxruntime
COPY . /src
RUN /opt/relo/bin/pip install --no-cache-dir --no-deps /src && rm -rf /src

RUN useradd --uid 10001 --create-home --groups video relo
USER 10001
WORKDIR /data
ENTRYPOINT ["/opt/relo/bin/relo-edge"]
