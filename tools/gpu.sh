#!/bin/bash
# What is to be seen and measured on a GPU, in at most eight minutes, on a machine with PyTorch and no network.
#
# Needs: Python 3.12 with PyTorch 2.11 or newer, torchvision, NumPy, pandas, SciPy, statsmodels, matplotlib, seaborn, pytest,
# pytest-xdist, psutil, PyYAML, safetensors, sacrebleu, Jinja2 and tqdm. What else kvformer imports comes as wheels in
# $WHEELS (default .whl; 4 MB), made once where there is a network, in this folder:
#
#   for name in pydantic==2.14.4 pydantic_core==2.50.5 annotated-types typing-inspection sacremoses filelock; do
#     python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#       --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .whl "$name"; done
#
# Data sets that are prepared in results/data are used, the others left out; nothing is installed outside a scratch folder.
#
#   bash tools/gpu.sh              on the GPU; what it measures is in $OUT (default results/gpu)
#   REHEARSE=1 bash tools/gpu.sh   on a CPU, with stand-ins and tiny models, in about two minutes
#
# Parts: tests benchmark throughput successor default; PARTS="tests throughput" runs some of them. Every part has a time limit
# of its own. What it measured is in $OUT as soon as it ends: gpu.log, tables, and everything in gpu.tar.gz.
set -u
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-results/gpu}
PARTS=${PARTS:-tests benchmark throughput successor default}
WHEELS=${WHEELS:-.whl}
REHEARSE=${REHEARSE:-}
PYTHON=${PYTHON:-python3}
WORK=$(mktemp -d)
failed=''
mkdir -p "$OUT" "$WORK/kept"
exec > >(tee -a "$OUT/gpu.log") 2>&1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}"

if [ -n "$REHEARSE" ]; then
  device=cpu counts="1 2" window=60 tiny='--tiny --enough 3' rounds=2 workers=1 many=2 study_seconds=60 successor_seconds=60
  tiny_models=--tiny files=tests/core/test_schedules.py select='not slow' cases=numbers benchmark_seconds=1 patience=5
else
  device=cuda counts="1 4 8 16" window=10 tiny='' tiny_models='' rounds=5 workers=8 many=8 study_seconds=40 successor_seconds=70
  files="tests/core/test_graphs.py tests/core/test_kept_step.py tests/core/test_devices.py tests/core/test_cost.py" select=gpu cases='' benchmark_seconds=80 patience=1
fi

say() { printf '%s %4ds  %s\n' "$(date -u +%H:%M:%S)" "$SECONDS" "$*"; }

keep() { # what there is so far, in one archive and as tables
  find "$WORK/kept" -maxdepth 2 -name '*.csv' -not -path '*/default/*' -exec cp {} "$OUT" \;
  tar -czf "$OUT/.gpu.tar.gz" -C "$WORK/kept" . && mv "$OUT/.gpu.tar.gz" "$OUT/gpu.tar.gz"
}

part() { # name, seconds, function: run it if it is asked for, for so long at most
  local name=$1 limit=$2 begin=$SECONDS
  case " $PARTS " in *" $name "*) ;; *) return ;; esac
  say "$name: at most $limit seconds"
  export -f "$3" say
  timeout --kill-after=10 "$limit" bash -c "$3"
  code=$?
  say "$name: exit code $code, $((SECONDS - begin)) seconds"
  [ $code = 0 ] || failed="$failed $name"
  keep
}

tests() {
  # shellcheck disable=SC2086
  "$PYTHON" -m pytest -q -p no:cacheprovider -n "$workers" -m "$select" --maxfail=20 --durations=5 \
    --junitxml="$kept/tests.xml" $files
}

benchmark() {
  "$PYTHON" -m benchmarks --device "$device" $tiny_models --rounds "$rounds" --seconds "$benchmark_seconds" --only "$cases" \
    --out "$kept/benchmarks"
}

count_runs() { # label, study, processes, seconds, further options
  local label=$1 study=$2 processes=$3 seconds=$4
  shift 4
  "$PYTHON" -m tools.many "$study" --label "$label" --processes "$processes" --seconds "$seconds" --device "$device" \
    --out "$WORK/runs/$label-$processes" --csv "$kept/throughput.csv" $tiny "$@"
}

throughput() {
  local lists=reverse,sort,sub,swap,copy processes
  for processes in $counts; do count_runs plain config/config.yaml "$processes" "$window" --tasks "$lists"; done
  if ! command -v nvidia-cuda-mps-control > /dev/null; then
    say "MPS is not installed here"
    return
  fi
  export CUDA_MPS_PIPE_DIRECTORY=$WORK/mps CUDA_MPS_LOG_DIRECTORY=$WORK/mps
  mkdir -p "$WORK/mps"
  nvidia-cuda-mps-control -d || return
  trap 'echo quit | nvidia-cuda-mps-control' EXIT
  for processes in $counts; do count_runs mps config/config.yaml "$processes" "$window" --tasks "$lists"; done
}

successor() { # the largest part of its 3,240 runs that fits into the time
  count_runs successor config/successor.yaml "$many" "$successor_seconds"
}

default() { # the default study from runs to report, with the tasks whose data are here
  local study=$WORK/runs/default-$many
  count_runs default config/config.yaml "$many" "$study_seconds"
  mkdir -p "$kept/default"
  for step in collect analyse tables report; do
    "$PYTHON" -m kvformer "$step" "$study" || return
  done
  cp -r "$study"/{study.json,runs.csv,curves.csv.gz,results.json,report.html,tables} "$kept/default"
  find "$study/runs" -name provenance.json | head -n 1 | xargs -I{} cp {} "$kept/default"
}

kept=$WORK/kept
export OUT WORK REHEARSE PYTHON device counts window tiny tiny_models rounds workers many files select cases kept
export benchmark_seconds study_seconds successor_seconds
export -f count_runs say
say "$(uname -srm), $(getconf _NPROCESSORS_ONLN) cores${REHEARSE:+, rehearsal}"
if compgen -G "$WHEELS/*.whl" > /dev/null && [ -z "$REHEARSE" ]; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/site" "$WHEELS"/*.whl
  export PYTHONPATH="$PYTHONPATH:$WORK/site"
fi
command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
"$PYTHON" - << 'END' || exit 1
import json, os, sys, torch, kvformer
from kvformer.training.provenance import git_state, package_versions, processor, utc_now
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
print(f"Python {sys.version.split()[0]}, PyTorch {torch.__version__}, GPU {gpu}, {processor()}")
facts = {"time": utc_now(), "git": git_state().model_dump(), "packages": package_versions(), "cpu": processor(), "gpu": gpu,
         "cuda": torch.version.cuda, "python": sys.version.split()[0], "rehearsal": bool(os.environ.get("REHEARSE"))}
open(os.path.join(os.environ["kept"], "provenance.json"), "w").write(json.dumps(facts, indent=1))
sys.exit(0 if gpu or os.environ.get("REHEARSE") else "there is no GPU here")
END
cp "$kept/provenance.json" "$OUT"
part tests $((75 * patience)) tests
part benchmark $((100 * patience)) benchmark
part throughput $((110 * patience)) throughput
part successor $((85 * patience)) successor
part default $((70 * patience)) default
rm -rf "$WORK"
say "done${failed:+, but not well:$failed}"
[ -z "$failed" ]
