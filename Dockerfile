# The workbench in a container, for the CPU (default) or for GPUs:
#   docker build -t p2r .
#   docker build -t p2r:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 --build-arg EXTRAS=app,judges,cards,tracking,vllm,memory .
#   docker run --rm -it -e P2R_NO_APP=1 -v "$PWD/runs:/workbench/runs" p2r p2r demo --run runs/demo
#   docker run --rm -it -p 7860:7860 -e P2R_APP_PASSWORD=… -v "$PWD/runs:/workbench/runs" p2r p2r app runs/demo --host 0.0.0.0
#   docker run --rm -it --gpus all --shm-size 16g -v "$PWD/runs:/workbench/runs" p2r:cuda p2r doctor
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=app,judges,cards,tracking
ENV PIP_NO_CACHE_DIR=1 PIP_EXTRA_INDEX_URL=${TORCH_INDEX} PYTHONUNBUFFERED=1
# A compiler: torch and vLLM compile kernels when they first run.
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ffmpeg \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /workbench
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY p2r ./p2r
COPY apps ./apps
RUN pip install --constraint requirements.lock --editable ".[${EXTRAS}]"
COPY . .
# Any user can write caches and runs: docker run --user $(id -u) …
RUN mkdir -p runs cache && chmod 777 runs cache
ENV HF_HOME=/workbench/cache/huggingface P2R_CACHE=/workbench/cache
EXPOSE 7860
CMD ["p2r", "doctor"]
