#!/usr/bin/env bash
# Ours beside mambapy and PyTorch, in one table: builds kernels_bench, makes a Python environment
# with the peers in .deps/bench-venv, and times everything in turns. Arguments go to peers.py:
#   kernels/bench/compare.sh --threads 1 --only 'selective_scan|conv1d' --json table.json
. "$(dirname "$(readlink -f "$0")")/../../cmake/setup.sh"
setup_build kernels_bench

venv=$top/.deps/bench-venv
if [ ! -e "$venv/.complete" ]; then
  say "Making ${venv#"$top"/} with mambapy"
  rm -rf "$venv"
  # Debian's python3 comes without the ensurepip that a venv would want.
  python3 -m venv --without-pip "$venv"
  pip=(python3 -m pip --quiet --disable-pip-version-check --python "$venv/bin/python" install)
  "${pip[@]}" --no-deps mambapy==1.2.0
  # The wheel that is here already: the peers then run on the very same LibTorch.
  echo "$torch_dir" >"$(echo "$venv"/lib/python3*/site-packages)/libtorch.pth"
  if ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    say "The LibTorch of ${torch_dir#"$top"/} lacks CUDA's libraries; installing torch for Python"
    rm "$venv"/lib/python3*/site-packages/libtorch.pth
    "${pip[@]}" "torch==$torch_version"
  fi
  touch "$venv/.complete"
fi
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
exec "$venv/bin/python" -W ignore "$top/kernels/bench/peers.py" --bench "$build/bin/kernels_bench" "$@"
