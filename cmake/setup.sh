# Sourced by ./ribo-run and ./run-tests: installs what is missing and builds. The fast path (all is
# there) costs one `ninja` that finds nothing to do.
#   setup_build TARGET...   builds these targets in $build
#   setup_python            what the tests of the scripts for Python need
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${RIBO_BUILD:-$top/build}
torch_version=2.11.0
torch_dir=$top/.deps/libtorch-$torch_version

apt_packages="g++ cmake ninja-build ccache mold pkg-config python3-pip \
libboost-dev libboost-filesystem-dev libboost-program-options-dev libyaml-cpp-dev libspdlog-dev \
nlohmann-json3-dev libssl-dev zlib1g-dev protobuf-compiler libprotobuf-dev libgtest-dev libgmock-dev \
libbenchmark-dev"

say() { printf '%s\n' "$*" >&2; }

install_packages() {
  local missing=() package
  for package in $apt_packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  local command="apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    say "Ribo needs ${#missing[@]} Debian packages that are not installed. As root, run:"
    say "  apt-get update && $command"
    exit 3
  fi
  say "Installing ${#missing[@]} Debian packages: ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive $command; } >"$build/apt.log" 2>&1 ||
    { tail -n 20 "$build/apt.log" >&2; say "apt-get failed; the whole log: $build/apt.log"; exit 3; }
}

# A CUDA toolkit 13 with nvcc: then the wheel comes with all of its CUDA libraries.
has_cuda_toolkit() {
  local nvcc
  nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || return 1
  "$nvcc" --version | grep -q 'release 13'
}

pip_into() {
  local folder=$1
  shift
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location \
    --root-user-action=ignore --target "$folder" "$@"
}
pip_failed() {
  tail -n 20 "$build/pip.log" >&2
  say "pip failed; the whole log: $build/pip.log"
  exit 3
}

install_torch() {
  local want
  want=$(wanted_kind)
  # The CUDA wheel's libraries serve a machine without a toolkit as well.
  if [ -e "$torch_dir/.complete-$want" ] || [ -e "$torch_dir/.complete-cuda" ]; then return 0; fi
  say "Installing LibTorch $torch_version ($want) into ${torch_dir#"$top"/}"
  rm -rf "$torch_dir"
  # Without a toolkit libtorch_cpu still needs CUDA's runtime and CUPTI, but nothing else of it.
  if [ $want = cuda ]; then
    pip_into "$torch_dir" "torch==$torch_version"
  else
    pip_into "$torch_dir" --no-deps "torch==$torch_version" &&
      pip_into "$torch_dir" 'cuda-toolkit[cudart,cupti]==13.0.2'
  fi >"$build/pip.log" 2>&1 || pip_failed
  touch "$torch_dir/.complete-$want"
}

# What the tests of scripts/ need beside the torch of LibTorch's wheel, into .deps/python-tools.
# LibTorch for CPUs cannot be imported by Python: there those tests are skipped.
setup_python() {
  local tools=$top/.deps/python-tools
  local wheels="safetensors==0.8.0 numpy==2.4.6"
  [ -e "$torch_dir/.complete-cuda" ] || return 0
  lock_setup
  if [ "$(cat "$tools/.complete" 2>/dev/null)" != "$wheels" ]; then
    say "Installing $wheels for Python into ${tools#"$top"/}"
    rm -rf "$tools"
    pip_into "$tools" --no-deps $wheels >"$build/pip.log" 2>&1 || pip_failed
    echo "$wheels" >"$tools/.complete"
  fi
  exec 9>&-
}

# cuda or cpu: which LibTorch and which build this machine can use.
wanted_kind() { if has_cuda_toolkit; then echo cuda; else echo cpu; fi; }

# Succeeds at once when the last build finished and nothing that it read has changed.
is_built() {
  [ "$(cat "$build/.kind" 2>/dev/null)" = "$(wanted_kind)" ] &&
    ninja -C "$build" -n "$@" 2>/dev/null | grep -q 'no work to do'
}

lock_setup() {
  exec 9>"$build/.lock"
  flock -n 9 || { say "Waiting for another set-up of this folder"; flock 9; }
}

setup_build() {
  if is_built "$@"; then return 0; fi
  mkdir -p "$build"
  lock_setup
  install_packages
  install_torch
  if [ "$(cat "$build/.kind" 2>/dev/null)" != "$(wanted_kind)" ]; then
    say "Configuring in ${build#"$top"/}"
    cmake -S "$top" -B "$build" -G Ninja >"$build/configure.log" 2>&1 ||
      { tail -n 20 "$build/configure.log" >&2; exit 3; }
    wanted_kind >"$build/.kind"
  fi
  say "Building $* (the first time takes minutes)"
  if ! ninja -C "$build" "$@" >"$build/build.log" 2>&1; then
    grep -E -A8 'error|FAILED' "$build/build.log" >"$build/errors.log" || cp "$build"/{build,errors}.log
    head -n 60 "$build/errors.log" >&2
    say "The build failed; the whole log: $build/build.log"
    exit 3
  fi
  exec 9>&-
}
