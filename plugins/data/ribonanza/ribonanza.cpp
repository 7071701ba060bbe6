// The plugin: the data source `ribonanza`.
#include "ribo/plugin.h"
#include "ribonanza/ribonanza_source.h"

RIBO_PLUGIN(ribonanza, RIBO_VERSION, "Reactivity profiles in the format of Stanford Ribonanza") {
  plugin.data<ribo::RibonanzaSource>("ribonanza");
}
