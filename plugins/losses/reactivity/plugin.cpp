#include "ribo/plugin.h"

#include "losses.h"
#include "metrics.h"

RIBO_PLUGIN(reactivity, RIBO_VERSION, "Losses and metrics over profiles measured at each residue") {
  using namespace ribo::reactivity;
  plugin.loss<MaeLoss>("mae");
  plugin.loss<MseLoss>("mse");
  plugin.loss<HuberLoss>("huber");
  plugin.loss<McrmseLoss>("mcrmse");
  plugin.metric<Mae>("mae");
  plugin.metric<Mse>("mse");
  plugin.metric<Rmse>("rmse");
  plugin.metric<Mcrmse>("mcrmse");
  plugin.metric<RibonanzaMae>("ribonanza_mae");
  plugin.metric<Pearson>("pearson");
}
