# Reelbank in a container, as an ordinary user. docs/install.md shows how to run it.
#   docker build -t reelbank .                          # torch for the CPU
#   docker build --build-arg TORCH=cuda -t reelbank .   # torch with CUDA, about 6 GB
# The package versions are those that were tested together (versions/tested.txt).
ARG DEBIAN=trixie-slim

FROM debian:${DEBIAN} AS wheel
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv
RUN python3 -m venv /build
COPY . /source/
RUN PIP_BUILD_CONSTRAINT=/source/versions/tested.txt /build/bin/pip wheel --no-cache-dir --no-deps -w /wheels /source

FROM debian:${DEBIAN}
ARG TORCH=cpu
ARG CPU_INDEX=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/reelbank
COPY versions/tested.txt /opt/reelbank/tested.txt
# cpu: without dependencies, because the index of torch for the CPU has only some of them; they are installed below.
# cuda: PyPI has torch with CUDA for Linux on x86-64. Triton, a part of it, compiles kernels (TV-L1) with a C compiler.
RUN case "$TORCH" in \
    cpu) /opt/reelbank/bin/pip install --no-cache-dir --no-deps --index-url "$CPU_INDEX" -c /opt/reelbank/tested.txt torch torchvision ;; \
    cuda) apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev && rm -rf /var/lib/apt/lists/* ;; \
    *) echo "TORCH=$TORCH: choose cpu or cuda" >&2; exit 1 ;; esac
COPY --from=wheel /wheels/ /wheels/
RUN /opt/reelbank/bin/pip install --no-cache-dir -c /opt/reelbank/tested.txt "$(ls /wheels/reelbank-*.whl)[hf,parquet]" && rm -r /wheels
RUN useradd --create-home reelbank && mkdir /data && chown reelbank /data
ENV PATH=/opt/reelbank/bin:$PATH
# Weights are downloaded into the mounted folder, so that the next container has them.
ENV XDG_CACHE_HOME=/data/.cache
USER reelbank
WORKDIR /data
ENTRYPOINT ["reelbank"]
CMD ["--help"]
