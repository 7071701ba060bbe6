// All that a plugin's source file needs:
//
//   #include <ribo/plugin.h>
//   struct GatedConv final : ribo::Block { ... };
//   RIBO_PLUGIN(mylab, "0.1.0", "Blocks of our lab") { plugin.block<GatedConv>("gated_conv"); }
//
// A pipeline then says `type: mylab/gated_conv`.
//
// Where the host looks, in this order; the working directory is never searched:
//   --plugin-path, $RIBO_PLUGIN_PATH, `plugins:` of the pipeline, the installed plugin directory.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "ribo/abi.h"
#include "ribo/block.h"
#include "ribo/data.h"
#include "ribo/loss.h"
#include "ribo/metric.h"

namespace torch {
class Library;
}

namespace ribo {

/// How the host makes one type of thing: its schema, and a constructor over type-erased options
/// (from `schema->make_options()`).
template <class Product, class... Args>
struct Factory {
  std::shared_ptr<const SchemaBase> schema;
  std::function<std::shared_ptr<Product>(const void* options, const Args&...)> make;
};

struct BlockFactory : Factory<Block, Shapes> {
  std::function<void(const void* options, Shapes&)> shapes;
};
using DataFactory = Factory<DataSource, DataContext>;
using LossFactory = Factory<Loss>;
using MetricFactory = Factory<Metric>;

/// What a plugin's setup function talks to. Nothing is registered when setup throws.
class RIBO_API Registrar {
 public:
  virtual ~Registrar();

  template <class T>
  void block(std::string name) {
    using Options = typename T::Options;
    BlockFactory f;
    fill<T, Block, Shapes>(f);
    f.shapes = [](const void* o, Shapes& s) { T::shapes(*static_cast<const Options*>(o), s); };
    add_block(std::move(name), std::move(f));
  }
  template <class T>
  void data(std::string name) {
    DataFactory f;
    fill<T, DataSource, DataContext>(f);
    add_data(std::move(name), std::move(f));
  }
  template <class T>
  void loss(std::string name) {
    LossFactory f;
    fill<T, Loss>(f);
    add_loss(std::move(name), std::move(f));
  }
  template <class T>
  void metric(std::string name) {
    MetricFactory f;
    fill<T, Metric>(f);
    add_metric(std::move(name), std::move(f));
  }
  /// Registers operators of the namespace `ns` (seen by the dispatcher and by torch.ops) in place
  /// of a TORCH_LIBRARY, whose failure in a static initialiser would end the process. `define`
  /// runs inside setup, so that its exceptions are refusals.
  virtual void ops(const std::string& ns, const std::function<void(torch::Library&)>& define) = 0;

 protected:
  virtual void add_block(std::string name, BlockFactory factory) = 0;
  virtual void add_data(std::string name, DataFactory factory) = 0;
  virtual void add_loss(std::string name, LossFactory factory) = 0;
  virtual void add_metric(std::string name, MetricFactory factory) = 0;

 private:
  template <class T, class Product, class... Args>
  static void fill(Factory<Product, Args...>& f) {
    using Options = typename T::Options;
    f.schema = std::make_shared<Schema<Options>>(T::schema());
    f.make = [](const void* o, const Args&... args) -> std::shared_ptr<Product> {
      return std::make_shared<T>(*static_cast<const Options*>(o), args...);
    };
  }
};

}  // namespace ribo

/// Defines the plugin's descriptor and opens the body of its setup function.
#define RIBO_PLUGIN(name_, version_, doc_)                                                   \
  static void ribo_plugin_setup(ribo::Registrar& plugin);                                    \
  extern "C" RIBO_API const PluginInfo ribo_plugin;                                          \
  const PluginInfo ribo_plugin = {sizeof(PluginInfo), RIBO_ABI, RIBO_TORCH_ABI, RIBO_BUILD_TAG, \
                                  #name_, version_, doc_, &ribo_plugin_setup};               \
  static void ribo_plugin_setup([[maybe_unused]] ribo::Registrar& plugin)
