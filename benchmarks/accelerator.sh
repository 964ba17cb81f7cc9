#!/usr/bin/env bash
# All measurements that want an accelerator, in one command:
#
#   bash benchmarks/accelerator.sh OUT [--quick] [--only PATTERN] [--minutes N]
#
# OUT             folder for JSON, tables, pictures and logs
# --quick         smoke runs, for instance on a CPU
# --only PATTERN  shell pattern of the parts, for instance 'steps-*'
# --minutes N     of all parts together, 25 by default; what does not fit any more is not run
#
# It needs a clone with the package's dependencies, and no network. PyTorch is timed where it is installed. PYTHON names the
# interpreter. MNIST is read from the folder that SAEGAN_JAX_MANUAL_DIR names; without it the digits take its place.
set -u

usage() {
  echo "usage: bash benchmarks/accelerator.sh OUT [--quick] [--only PATTERN] [--minutes N]" >&2
  exit 2
}

out="" quick=() only="*" minutes=25
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) quick=(--quick) ;;
    --only | --minutes)
      [ $# -gt 1 ] || usage
      if [ "$1" = --only ]; then only="$2"; else minutes="$2"; fi
      shift
      ;;
    -*) usage ;;
    *)
      [ -z "$out" ] || usage
      out="$1"
      ;;
  esac
  shift
done
[ -n "$out" ] || usage
case "$minutes" in
  '' | *[!0-9]*) usage ;;
esac
minutes=$((10#$minutes))
[ "$minutes" -gt 0 ] || usage

mkdir -p "$out/logs" || exit 2
out="$(cd "$out" && pwd)"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root" || exit 2
python="${PYTHON:-python3}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export JAX_ENABLE_COMPILATION_CACHE=0         # compile times are those of a first run
export XLA_PYTHON_CLIENT_PREALLOCATE=false    # PyTorch uses the same device
export TF_CPP_MIN_LOG_LEVEL=3

started=$SECONDS
deadline=$((started + 60 * minutes))
done_parts=() failed_parts=()

# Stopped, it stops the part that runs, which is in a process group of its own.
child=""
trap '[ -z "$child" ] || { kill -TERM "$child"; wait "$child"; }; exit 143' INT TERM

# part NAME SECONDS COMMAND...: run a part for so long at most, and keep its log.
part() {
  local name="$1" limit="$2" left began code took why
  shift 2
  # shellcheck disable=SC2254  # a pattern on purpose
  case "$name" in
    $only) ;;
    *) return ;;
  esac
  left=$((deadline - SECONDS))
  if [ "$left" -lt 10 ]; then
    failed_parts+=("$name: not run, the $minutes minutes are used up")
    return
  fi
  if [ "$limit" -gt "$left" ]; then limit="$left"; fi
  began=$SECONDS
  echo "$name ..."
  # Asked to stop, a benchmark writes what it has finished.
  timeout --signal=TERM --kill-after=15 "$limit" "$@" >"$out/logs/$name.log" 2>&1 &
  child=$!
  wait "$child"
  code=$?
  child=""
  took=$((SECONDS - began))
  if [ "$code" -eq 0 ]; then
    done_parts+=("$name: $took s")
    echo "$name: done in $took s"
    return
  fi
  case "$code" in
    124 | 137 | 143) why="stopped after $took s" ;;
    *) why="exit code $code after $took s: $(tail -n 1 "$out/logs/$name.log")" ;;
  esac
  failed_parts+=("$name: $why")
  echo "$name: $why"
}

# run NAME SECONDS MODULE OPTIONS...: a benchmark that writes OUT/NAME.json.
run() {
  local name="$1" limit="$2" module="$3"
  shift 3
  part "$name" "$limit" "$python" -m "benchmarks.$module" "$@" "${quick[@]}" --out "$out/$name.json"
}

# exactly NAME SECONDS WORKS...: steps beside PyTorch, with exact float32 products on both sides.
exactly() {
  JAX_DEFAULT_MATMUL_PRECISION=highest run "$1" "$2" run --only "$3" --repeats 5 --seconds 0.5
}

dataset=digits
if [ ${#quick[@]} -eq 0 ] && [ -d "${SAEGAN_JAX_MANUAL_DIR:-}" ]; then dataset=mnist; fi

part machine 120 "$python" -c '
import importlib.metadata as m, json, jax
names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "torch", "tyro", "rich", "scikit-learn", "scipy", "matplotlib",
         "safetensors", "tensorflow-datasets", "array_record", "grain", "keras", "tensorflow")
installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions()}
found = {name: installed.get(name.replace("_", "-"), "not installed") for name in names}
print(json.dumps({"devices": [str(d.device_kind) for d in jax.devices()], **found}, indent=1))
'
run products 90 forms --only products
exactly steps-rpgan 180 'gan_rpgan*'
run quality 300 quality --dataset "$dataset" --seeds 3
run convolutions 150 forms --only 'convolutions*'
exactly steps-sae 180 'sae_b*'
run topk 120 forms --only topk
run seeds 120 forms --only 'seeds*'
run precision 120 forms --only 'precision*'
exactly steps-dcgan 180 'gan_dcgan_w32'
exactly steps-64 180 'gan_dcgan_64*'
run dictionary 150 forms --only dictionary
exactly steps-topk 150 'sae_topk_1000*'
exactly steps-mlp 150 'gan_mlp'
exactly steps-large 180 'sae_topk_4096*'
# The same at JAX's default precision, which on GPUs is TensorFloat-32, PyTorch's set alike.
run default-rpgan 150 run --only 'gan_rpgan*' --repeats 5 --seconds 0.5
run default-64 150 run --only 'gan_dcgan_64*' --repeats 5 --seconds 0.5

echo
echo "Written to $out:"
(cd "$out" && find . -maxdepth 1 -type f \( -name '*.json' -o -name '*.png' \) -printf '  %f %s bytes\n' | sort)
echo "Parts done: ${#done_parts[@]}"
for line in "${done_parts[@]}"; do echo "  $line"; done
echo "Parts not done: ${#failed_parts[@]}"
for line in "${failed_parts[@]}"; do echo "  $line"; done
echo "Total: $((SECONDS - started)) s"
if [ $((${#done_parts[@]} + ${#failed_parts[@]})) -eq 0 ]; then
  echo "--only '$only' matches no part." >&2
  exit 2
fi
[ "${#failed_parts[@]}" -eq 0 ]
