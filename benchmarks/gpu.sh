#!/usr/bin/env bash
# Runs every check and measurement that needs a GPU:
#   bash benchmarks/gpu.sh OUTPUT_FOLDER [FER+ data folder]
# Uses the active Python (torch with CUDA). Each part prints its command. If a part fails, the others still run; the
# exit status is the number of failures.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: bash benchmarks/gpu.sh OUTPUT_FOLDER [FER+ data folder]}
ferplus=${2:-Data/FERPlus}
mkdir -p "$out"
failures=0

part() {
  local name=$1; shift
  echo "== $name: $*"
  local start=$SECONDS
  if "$@" 2>&1 | tee "$out/$name.log"; then echo "== $name: done in $((SECONDS - start)) s"
  else echo "== $name: FAILED after $((SECONDS - start)) s"; failures=$((failures + 1)); fi
}

python -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"; print(torch.__version__, torch.cuda.get_device_name())' || exit 1
part gpu_tests python -m pytest -m gpu tests
part sample python benchmarks/sample_table.py --output "$out/sample_table"
part throughput python benchmarks/throughput.py --clips 140 --steps 20 --precisions bf16 fp16 --compile --json "$out/throughput.json"
part precision python benchmarks/precision.py --precisions bf16 fp16 --json "$out/precision.json"
part scaling python benchmarks/scaling.py --json "$out/scaling.json"
part full_protocol python benchmarks/full_protocol.py --json "$out/full_protocol.json"
if [ -e "$ferplus/fer2013new.csv" ]; then
  part composed python benchmarks/composed_table.py --data-root "$ferplus" --output "$out/composed"
  for size in 112 224; do
    part "ferplus_$size" python Pretrain_FERPlus.py --data-root "$ferplus" --image-size "$size" --epochs 40 --half \
      --export "$out/Resnet18_FER+_$size.pth.tar" --output "$out/runs"
  done
else
  echo "== composed clips and FER+ pretraining skipped: no $ferplus/fer2013new.csv (see Data/README.md)"
fi
exit "$failures"
