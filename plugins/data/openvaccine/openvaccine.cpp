// The plugin: the data source `openvaccine`.
#include "openvaccine/openvaccine_source.h"
#include "ribo/plugin.h"

RIBO_PLUGIN(openvaccine, RIBO_VERSION, "Degradation profiles in the format of Kaggle OpenVaccine") {
  plugin.data<ribo::OpenVaccineSource>("openvaccine");
}
