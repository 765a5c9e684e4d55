#!/usr/bin/env bash
# The CUDA and Triton rows of the suites, at the published sizes, within LIMIT_S seconds (480).
#
# For a Linux machine with a CUDA GPU, a Python 3.12 of its own with PyTorch, Triton and NumPy, and
# no network:
#
#   .ci/gpu_check.sh --collect WHEELS        before, with a network: wheels of what that machine lacks
#   .ci/gpu_check.sh OUT [WHEELS]            there: a run folder below OUT for each step
#   .ci/gpu_check.sh --cpu OUT [STEP ...]    the same steps on this CPU, at sizes of a second
#   .ci/gpu_check.sh --list                  the cases of each step; needs no GPU
#
# Rows are written as they come, so that a machine that is taken away costs one row. The first step
# checks results at sizes that are hard to get right; if a row is incorrect, nothing else is timed.
# What is compiled comes last, since it takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
bench=("$python" -m ablation_executor.bench --no-color)
limit_s=${LIMIT_S:-480}
# What a bench that is interrupted takes to write its last rows and to end
end_s=10
# Modules that the bench needs besides PyTorch, Triton and NumPy
carried=(scipy-openblas32 psutil rich markdown-it-py mdurl pygments)
step_names=(right sweep backward lm-step compiled)

# What a step measures, and the seconds that it may take
options_of() {
    local eager=triton_flash,torch_sdpa_flash,torch_sdpa_flash_again
    local sweep=$eager,torch_sdpa_cudnn,torch_sdpa_efficient,torch_sdpa_math
    local compiled=torch_sdpa_flash,torch_sdpa_flash_again,torch_unfused_lse_compiled,torch_flex_compiled
    local backward=$eager,torch_unfused_course,torch_unfused_softmax
    case $1 in
        right) options="--suite attention-sweep --tiers 100:100:32:2,1:65:16:2,128:257:64:2
            --variants $sweep,torch_unfused_einsum,torch_unfused_lse --samples 3" seconds=80 ;;
        sweep) options="--suite attention-sweep --tiers paper
            --variants $sweep,torch_unfused_einsum,torch_unfused_lse --time 12 --budget 30" seconds=110 ;;
        backward) options="--suite attention-backward --tiers causal --variants $backward
            --time 3 --budget 20" seconds=110 ;;
        lm-step) options="--suite lm-step --tiers published --variants sdpa,sdpa_again,course_unfused
            --time 5 --budget 30" seconds=90 ;;
        compiled) options="--suite attention-sweep --tiers paper --variants $compiled
            --time 12 --budget 60" seconds=$limit_s ;;
        *) echo "no step $1; steps: ${step_names[*]}" >&2; exit 2 ;;
    esac
    options="$options --device cuda"
}

# The same on a CPU: no variant of a GPU alone, and sizes of a second
on_cpu() {
    local cpu=torch_sdpa_flash,torch_sdpa_flash_again,torch_unfused_lse
    case $1 in
        right | sweep) options="--suite attention-sweep --tiers 33:65:16:2 --variants triton_flash,$cpu" ;;
        backward) options="--suite attention-backward --tiers 33:33:16:2
            --variants triton_flash,torch_sdpa_flash,torch_sdpa_flash_again" ;;
        lm-step) options="--suite lm-step --tiers tiny --cases autocast=none
            --variants sdpa,sdpa_again" ;;
        compiled) options="--suite attention-sweep --tiers 33:65:16:2
            --variants torch_sdpa_flash,torch_sdpa_flash_again,torch_unfused_lse_compiled" ;;
    esac
    options="$options --quick --samples 3 --threads 1"
}

collect() {
    mkdir -p "$1"
    export PIP_CONSTRAINT=$PWD/constraints.txt PIP_BUILD_CONSTRAINT=$PWD/constraints.txt
    local python=${PYTHON:-python3.12}
    "$python" -m pip wheel -q --no-deps -w "$1" packages/kernels packages/executor packages/report
    "$python" -m pip download -q --no-deps --only-binary=:all: -d "$1" "${carried[@]}"
    ls -l "$1"
}

# Takes the wheels that were carried along; the kernels are built where theirs is not among them
prepare() {
    local wheels=${1:-}
    # Read when the script ends, so that it is no local one
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    local found=()
    [ -z "$wheels" ] || found=("$wheels"/*.whl)
    if ! compgen -G "${wheels:-/nowhere}/ablation_kernels-*.whl" >/dev/null; then
        "$python" -m pip wheel -q --no-index --no-deps --no-build-isolation -w "$site/built" packages/kernels
        found+=("$site"/built/*.whl)
    fi
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site/packages" "${found[@]}"
    export PYTHONPATH=$site/packages:$PWD/packages/executor/src:$PWD/packages/report/src
    "$python" - <<'PYTHON'
import sys
import torch, triton
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no CUDA device")
print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, Triton {triton.__version__}")
PYTHON
}

run_steps() {
    local out=$1 status worst=0 left
    shift
    for step in "$@"; do
        options_of "$step"
        [ "$device" = cuda ] || on_cpu "$step"
        left=$((limit_s - SECONDS - end_s))
        if [ "$left" -lt 15 ]; then
            echo "$step: left out, $limit_s s are over"
            continue
        fi
        echo "== $step, at most $((seconds < left ? seconds : left)) s"
        status=0
        # Ctrl-C, by which a bench keeps the rows of three rounds and more
        # shellcheck disable=SC2086  # the options are words
        timeout --foreground --signal=INT --kill-after="$end_s" "$((seconds < left ? seconds : left))" \
            "${bench[@]}" $options --out "$out/$step" || status=$?
        case $status in
            0) ;;
            124 | 130) echo "$step: ended by its limit; its rows are in $out/$step" ;;
            *)
                worst=1
                echo "$step: failed with status $status"
                [ "$step" != right ] || break
                ;;
        esac
    done
    return "$worst"
}

device=cuda
case ${1:-} in
    --collect) collect "${2:?--collect needs a folder}" ;;
    --list)
        for step in "${step_names[@]}"; do
            options_of "$step"
            echo "== $step"
            # shellcheck disable=SC2086
            "${bench[@]}" $options --list
        done
        ;;
    --cpu)
        device=cpu
        out=${2:?--cpu needs a folder for the rows}
        shift 2
        [ $# -gt 0 ] || set -- "${step_names[@]}"
        run_steps "$out" "$@"
        ;;
    "" | -*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
    *)
        prepare "${2:-}"
        run_steps "$1" "${step_names[@]}"
        ;;
esac
