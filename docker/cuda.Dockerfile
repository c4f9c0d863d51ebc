# relo-edge on an NVIDIA GPU: docker build -f docker/cuda.Dockerfile -t relo-edge:cuda .
#                             docker run --rm --gpus all -v "$PWD":/data relo-edge:cuda doctor
# Not run on a GPU yet. Engines belong to the GPU they were built on: build them in this container.
ARG BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04
FROM ${BASE} AS build

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN python3 -m venv /opt/relo \
 && /opt/relo/bin/pip install --no-cache-dir --constraint constraints.txt ".[gpu,tensorrt,serve]" \
 && /opt/relo/bin/pip uninstall --yes opencv-python \
 && /opt/relo/bin/pip install --no-cache-dir "opencv-python-headless>=4.8.1.78,!=4.10.*,!=4.11.*"

FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/relo /opt/relo
RUN useradd --uid 10001 --create-home --groups video relo
USER 10001
WORKDIR /data
ENTRYPOINT ["/opt/relo/bin/relo-edge"]
CMD ["doctor"]
