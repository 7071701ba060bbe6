#include "triangle_multiply/triangle_multiply_cpu.h"

#include "triangle_multiply/triangle_multiply_backward.h"
#include "triangle_multiply/triangle_multiply_forward.h"

namespace ribo::kernels {

template <>
void triangle_forward<Isa::RIBO_ISA>(
    const TriangleForward<float, Stored<Isa::RIBO_ISA, float>>& a) {
  RIBO_ISA::forward(a);
}
template <>
void triangle_forward<Isa::RIBO_ISA>(
    const TriangleForward<double, Stored<Isa::RIBO_ISA, double>>& a) {
  RIBO_ISA::forward(a);
}
template <>
void triangle_backward<Isa::RIBO_ISA>(
    const TriangleBackward<float, Stored<Isa::RIBO_ISA, float>>& a) {
  RIBO_ISA::backward(a);
}
template <>
void triangle_backward<Isa::RIBO_ISA>(
    const TriangleBackward<double, Stored<Isa::RIBO_ISA, double>>& a) {
  RIBO_ISA::backward(a);
}

}  // namespace ribo::kernels
