# relo-edge on a CPU: docker build -f docker/cpu.Dockerfile -t relo-edge .
#                     docker run --rm -v "$PWD":/data relo-edge track clip.mp4 --bundle relo-t256 …
FROM python:3.11-slim-bookworm AS build

WORKDIR /src
COPY . .
RUN python -m venv /opt/relo \
 && /opt/relo/bin/pip install --no-cache-dir --constraint constraints.txt ".[cpu,serve]" \
 # Nothing opens a window here; this build of OpenCV needs no display's libraries.
 && /opt/relo/bin/pip uninstall --yes opencv-python \
 && /opt/relo/bin/pip install --no-cache-dir "opencv-python-headless>=4.8.1.78,!=4.10.*,!=4.11.*"

FROM python:3.11-slim-bookworm

COPY --from=build /opt/relo /opt/relo
RUN useradd --uid 10001 --create-home --groups video relo
USER 10001
WORKDIR /data
ENTRYPOINT ["/opt/relo/bin/relo-edge"]
CMD ["doctor"]
