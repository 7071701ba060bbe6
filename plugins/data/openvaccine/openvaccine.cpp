// The plugin: the data source `openvaccine`.
#include "ribo/plugin.h"

#include "openvaccine/openvaccine_source.h"

RIBO_PLUGIN(openvaccine, RIBO_VERSION, "Degradation profiles in the format of Kaggle OpenVaccine") {
  plugin.data<ribo::OpenVaccineSource>("openvaccine");
}
