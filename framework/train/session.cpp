#include "train/session.h"

#include <algorithm>
#include <cstdlib>

#include "ribo/log.h"
#include "train/floors.h"

namespace ribo {
namespace fs = std::filesystem;
namespace {

// The value of a required top-level section; an empty map, with a diagnostic, where it is missing.
const Value& section(const Value& root, std::string_view key, std::string_view example,
                     Diagnostics& diagnostics) {
  static const Value nothing = Value::map();
  if (const Value* value = root.find(key); value && !value->is_null()) return *value;
  diagnostics.error(root.mark, key, cat("missing; e.g. `", key, ": ", example, "`"));
  return nothing;
}

// Picks an optimizer or a schedule: tables of the host itself, without plugins.
template <class Factory>
const Factory* choose_own(const std::map<std::string, Factory, std::less<>>& table,
                          std::string_view kind, const Value& map, const std::string& path,
                          std::shared_ptr<void>& options, Diagnostics& diagnostics) {
  const std::string type = read_type(map, path, table.begin()->first, diagnostics);
  if (type.empty()) return nullptr;
  const auto it = table.find(type);
  if (it == table.end()) {
    std::vector<std::string> names;
    for (const auto& [name, factory] : table) names.push_back(name);
    std::string hint = did_you_mean(type, names);
    if (hint.empty()) {
      hint = "; there are:";
      for (const std::string& name : names) hint += " " + name;
    }
    diagnostics.error(map.find("type")->mark, path + ".type",
                      cat("unknown ", kind, " \"", type, "\"", hint));
    return nullptr;
  }
  options = read_options(it->second, map, path, {}, diagnostics);
  return &it->second;
}

}  // namespace

Session::Session(const SessionRequest& request)
    : pipeline_(load_pipeline(request.pipeline, request.sets)) {
  const Value& root = pipeline_.root;
  Diagnostics diagnostics;
  const auto read = [&](std::string_view key, auto& out) {
    const Value* value = root.find(key);
    if (!value) return;
    const std::string wrong = read_value(*value, out);
    if (!wrong.empty()) diagnostics.error(value->mark, key, wrong);
  };
  int64_t seed = 0;
  std::vector<std::string> plugin_files;
  read("name", name_);
  read("seed", seed);
  read("plugins", plugin_files);
  seed_ = static_cast<uint64_t>(seed);
  diagnostics.throw_if_any();

  std::vector<fs::path> search = request.plugin_path;
  search.insert(search.end(), plugin_files.begin(), plugin_files.end());
  host_ = std::make_unique<plugins::Host>(search);

  const Value& data = section(root, "data", "{type: simulated}", diagnostics);
  const Value& model = section(root, "model", "{streams: ..., blocks: [...]}", diagnostics);
  const Value& loss = section(root, "loss", "{type: mae}", diagnostics);
  const Value& metrics = section(root, "metrics", "[{type: mae}]", diagnostics);
  const Value& train = section(root, "train", "{optimizer: ..., schedule: ...}", diagnostics);
  if (!data.members.empty()) {
    data_choice_ = choose(*host_, host_->data(), "data source", data, "data", {}, diagnostics);
  }
  if (!model.members.empty()) plan_ = read_plan(model, *host_, diagnostics);
  if (!loss.members.empty()) {
    loss_choice_ = choose(*host_, host_->losses(), "loss", loss, "loss", {}, diagnostics);
  }
  if (metrics.is_list() && !metrics.items.empty()) {
    for (size_t i = 0; i < metrics.items.size(); ++i) {
      const Value& item = metrics.items[i];
      const std::string path = cat("metrics[", i, "]");
      auto chosen = choose(*host_, host_->metrics(), "metric", item, path, {"name"}, diagnostics);
      std::string name = chosen.type;
      if (const Value* given = item.is_map() ? item.find("name") : nullptr) {
        const std::string wrong = read_value(*given, name);
        if (!wrong.empty()) diagnostics.error(given->mark, path + ".name", wrong);
      }
      if (std::find(metric_names_.begin(), metric_names_.end(), name) != metric_names_.end()) {
        diagnostics.error(item.mark, path, cat("a second metric is called \"", name,
                                               "\"; give it a name of its own with \"name\""));
      }
      metric_names_.push_back(name);
      metric_choices_.push_back(std::move(chosen));
    }
  } else if (root.find("metrics")) {
    diagnostics.error(metrics.mark, "metrics",
                      "expected a list such as [{type: mae}]; the first one decides what is best");
  }
  if (!train.members.empty()) {
    train_schema().parse(train, "train", {}, diagnostics, &options_);
    if (train.find("optimizer")) {
      optimizer_ = choose_own(optimizers(), "optimizer", options_.optimizer, "train.optimizer",
                              optimizer_options_, diagnostics);
    }
    if (train.find("schedule")) {
      schedule_ = choose_own(schedules(), "schedule", options_.schedule, "train.schedule",
                             schedule_options_, diagnostics);
    }
    if (diagnostics.ok() && options_.device != "auto") {
      try {
        (void)at::Device(options_.device);
      } catch (const c10::Error&) {
        diagnostics.error(train.find("device")->mark, "train.device",
                          cat("\"", options_.device, "\" is no device; say cpu, cuda or cuda:0"));
      }
    }
  }
  diagnostics.throw_if_any();
}

at::Device Session::device() const {
  const bool gpu = at::hasCUDA();
  if (options_.device == "auto") return gpu ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const at::Device device(options_.device);
  if (device.is_cuda() && !gpu) {
    throw ConfigError("train.device: there is no CUDA device here; say cpu or auto");
  }
  return device;
}

template <class Product, class Factory, class... Args>
std::shared_ptr<Product> Session::make(const Chosen<Factory>& chosen, const Args&... args) const {
  return plugins::guarded(*chosen.entry->plugin, chosen.path, chosen.type, [&] {
    return chosen.entry->factory.make(chosen.options.get(), args...);
  });
}

void Session::open() {
  DataContext context;
  context.base = fs::absolute(pipeline_.file).parent_path();
  context.cache = cache_folder();
  context.seed = seed_;
  std::error_code ec;
  fs::create_directories(context.cache, ec);
  if (ec) {
    throw Error(cat("cannot create the cache folder ", context.cache.string(), ": ", ec.message(),
                    "; set RIBO_CACHE to a writable folder"));
  }
  // A data source's messages name file and line themselves; a prefix would only hide them.
  data_ = data_choice_.entry->factory.make(data_choice_.options.get(), context);
  specs_ = data_->streams();

  Diagnostics diagnostics;
  walk_plan(plan_, *pipeline_.root.find("model"), specs_, diagnostics);
  diagnostics.throw_if_any();
  const auto fits = [&](const auto& chosen, const auto& product, const Mark& mark) {
    Shapes shapes = plan_.result;
    try {
      plugins::guarded(*chosen.entry->plugin, chosen.path, chosen.type,
                       [&] { product->shapes(shapes); });
    } catch (const ConfigError& e) {
      diagnostics.error(mark, "", e.what());
    }
  };
  const std::shared_ptr<Loss> loss = make<Loss>(loss_choice_);
  fits(loss_choice_, loss, pipeline_.root.find("loss")->mark);
  loss_ = loss;
  for (size_t i = 0; i < metric_choices_.size(); ++i) {
    const std::shared_ptr<Metric> metric = make<Metric>(metric_choices_[i]);
    fits(metric_choices_[i], metric, pipeline_.root.find("metrics")->items[i].mark);
    metrics_.push_back({metric_names_[i], metric});
  }
  diagnostics.throw_if_any();
}

std::shared_ptr<const Split> Session::split(std::string_view name) const {
  auto split = data_->split(name);
  if (!split || split->size() == 0) {
    throw Error(cat("data (", data_choice_.type, "): there are no sequences in the split \"", name,
                    "\""));
  }
  return split;
}

std::shared_ptr<Model> Session::build_model() const {
  at::manual_seed(seed_);
  auto model = std::make_shared<Model>(plan_);
  model->to(device());
  return model;
}

Training Session::prepare(const Process& process) const {
  Training out;
  out.options = options_;
  out.device = device();
  out.process = process;
  out.name = name_;
  out.loss = loss_;
  out.metrics = metrics_;
  LoaderOptions train;
  train.batch = std::max<int64_t>(1, options_.batch / options_.accumulate / process.world_size);
  train.seed = seed_;
  train.training = true;
  train.bucket = options_.bucket;
  train.rank = process.rank;
  train.world_size = process.world_size;
  LoaderOptions valid = train;
  valid.training = false;
  valid.batch = options_.valid_batch;
  out.train = std::make_shared<Loader>(split("train"), specs_, train);
  out.valid = std::make_shared<Loader>(split("valid"), specs_, valid);
  out.floors = compute_floors(out.train->split(), *out.valid, metrics_);
  out.model = build_model();
  NamedTensors parameters;
  for (const auto& item : out.model->named_parameters()) {
    parameters.emplace_back(item.key(), item.value());
  }
  out.optimizer = optimizer_->make(optimizer_options_.get(), parameters);
  out.schedule = schedule_->make(schedule_options_.get());
  return out;
}

fs::path cache_folder() {
  if (const char* own = std::getenv("RIBO_CACHE"); own && *own) return own;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return fs::path(xdg) / "ribo";
  if (const char* home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache/ribo";
  return fs::temp_directory_path() / "ribo-cache";
}

}  // namespace ribo
