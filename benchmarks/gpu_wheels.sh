#!/usr/bin/env bash
# Fetches the wheels that benchmarks/gpu.py needs on a machine with torch and numpy, but without network.
#
#   bash benchmarks/gpu_wheels.sh wheels        # on a machine with network: about 150 MB
#   then copy the checkout and the folder `wheels`, and there:
#   pip install --no-index --no-deps wheels/*.whl
#   PYTHONPATH=. python benchmarks/gpu.py --out gpu.json
#
# The versions are those of requirements.lock. PYTHON and PLATFORM select the other machine.
set -euo pipefail

NEEDED="
absl-py accelerate annotated-doc annotated-types anyio certifi charset-normalizer click datasets dill
filelock fsspec h11 hf-xet httpcore httpx huggingface-hub idna jinja2 jiwer joblib markdown-it-py
markupsafe mdurl multiprocess nltk packaging pandas peft pillow psutil pyarrow pydantic pydantic-core
pygments python-dateutil pytz pyyaml rapidfuzz regex requests rich rouge-score safetensors scipy
shellingham six tokenizers tqdm transformers trl typer typing-extensions typing-inspection
tzdata urllib3 xxhash
"
if [ "${1:-}" = "--list" ]; then
    printf '%s\n' $NEEDED
    exit
fi

folder=${1:-wheels}
root=$(cd "$(dirname "$0")/.." && pwd)
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
for name in $NEEDED; do
    grep -iE "^${name//-/[-_.]}==" "$root/requirements.lock" >> "$pins" || true
done
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$folder" \
    --python-version "${PYTHON:-3.11}" --platform "${PLATFORM:-manylinux_2_28_x86_64}" \
    --platform manylinux2014_x86_64 --requirement "$pins"
du -sh "$folder"
