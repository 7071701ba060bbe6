#include "triangle_multiply/triangle_multiply_cpu.h"

#include "triangle_multiply/triangle_multiply_backward.h"
#include "triangle_multiply/triangle_multiply_forward.h"

namespace ribo::kernels {

template <>
void triangle_forward<Isa::RIBO_ISA>(const TriangleForward<float>& a) {
  RIBO_ISA::forward(a);
}
template <>
void triangle_forward<Isa::RIBO_ISA>(const TriangleForward<double>& a) {
  RIBO_ISA::forward(a);
}
template <>
void triangle_backward<Isa::RIBO_ISA>(const TriangleBackward<float>& a) {
  RIBO_ISA::backward(a);
}
template <>
void triangle_backward<Isa::RIBO_ISA>(const TriangleBackward<double>& a) {
  RIBO_ISA::backward(a);
}

}  // namespace ribo::kernels
