#!/usr/bin/env bash
# One step of the tests of the installed package: package_test.sh STEP SOURCE BUILD WORK
set -euo pipefail
step=$1 source=$2 build=$3 work=$4
prefix=$work/moved
export RIBO_CACHE=$work/cache
unset RIBO_PLUGIN_PATH LD_LIBRARY_PATH

fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
configure() {
  cmake --fresh -S "$source/examples/predict" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" "$@"
}

case $step in
install)  # and moved, as a package's user may do
  rm -rf "$work"
  cmake --install "$build" --prefix "$work/installed" >/dev/null
  mv "$work/installed" "$prefix"
  ;;
libraries)  # none comes from the build folder, from the place before the move, or from nowhere
  for file in "$prefix"/bin/* "$prefix"/lib*/*.so "$prefix"/lib*/ribo/plugins/*.so; do
    found=$(ldd "$file")
    if grep -E "not found|$build/lib|$work/installed" <<<"$found"; then fail "$file"; fi
  done
  cd "$work"
  "$prefix/bin/ribo-run" plugins | tee plugins.txt
  grep -q "^    $prefix/lib.*/mamba.so" plugins.txt || fail "the installed plugins are not found"
  if grep Refused plugins.txt; then fail "an installed plugin is refused"; fi
  ;;
libtorch_nowhere)
  if configure -B "$work/nowhere" -DRIBO_LIBTORCH=/nowhere 2>"$work/nowhere.txt"; then
    fail "configured without LibTorch"
  fi
  grep 'LibTorch is not at /nowhere' "$work/nowhere.txt" || fail "$(cat "$work/nowhere.txt")"
  ;;
build)
  configure -B "$work/predict" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON
  cmake --build "$work/predict"
  if grep -E -e "-(I|isystem) ?($source/framework|$source/kernels|$build/framework)" \
      "$work/predict/compile_commands.json"; then
    fail "the example includes from the source tree"
  fi
  ;;
train)  # an installed pipeline, from a folder where there is none
  rm -rf "$work/run"
  cd "$work"
  "$prefix/bin/ribo-run" pipelines/mamba_sepcnn.yaml --run-dir "$work/run" \
    --set data.train=16 --set data.valid=8 --set data.min_length=30 --set data.max_length=40 \
    --set model.streams.single=16 --set train.batch=8 --set train.duration=2u \
    --set train.schedule.warmup=1u --set train.threads=1
  ;;
predict)  # the example's numbers are those of ribo-run predict
  cd "$work"
  sequences=(GGGAAACCCUUCGGGUUU acgun GGCGAAAGCC)
  for i in "${!sequences[@]}"; do printf '>%s\n%s\n' "$i" "${sequences[i]}"; done >input.fasta
  "$prefix/bin/ribo-run" predict run --input input.fasta --out profiles.csv
  predict/predict run "${sequences[@]}" >printed.txt
  python3 - printed.txt profiles.csv <<'PYTHON' || fail "the numbers differ"
import csv, struct, sys
printed = [line.split() for line in open(sys.argv[1])]
table = [row[2:] for row in csv.reader(open(sys.argv[2]))][1:]
def bits(rows):  # of the letters and the float32 numbers
    return [(base.upper(), struct.pack("2f", *map(float, values))) for base, *values in rows]
assert len(table) == 33 and bits(printed) == bits(table), (printed, table)
PYTHON
  ;;
*) fail "no such step: $step" ;;
esac
