#!/usr/bin/env bash
# Tells Spark which GPUs this machine has, in the form it asks for: {"name": "gpu", "addresses": ["0", "1"]}
set -euo pipefail

indices=$(nvidia-smi --query-gpu=index --format=csv,noheader)
[[ -n $indices ]] || { echo "nvidia-smi lists no GPU" >&2; exit 1; }
addresses=$(sed 's/.*/"&"/' <<<"$indices" | paste --serial --delimiters=, | sed 's/,/, /g')
echo "{\"name\": \"gpu\", \"addresses\": [$addresses]}"
