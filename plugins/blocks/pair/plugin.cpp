#include "pair.h"

RIBO_PLUGIN(pair, RIBO_VERSION, "The pair track: updates of `pair` [B, L, L, Z]") {
  ribo::pair::register_outer_product_mean(plugin);
  ribo::pair::register_pair_transition(plugin);
  ribo::pair::register_relative_position(plugin);
  ribo::pair::register_triangle_attention(plugin);
  ribo::pair::register_triangle_multiply(plugin);
}
