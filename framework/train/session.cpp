#include "train/session.h"

#include <algorithm>
#include <iterator>

#include "ribo/files.h"
#include "ribo/log.h"
#include "train/guarded.h"
#include "train/learning_rates.h"

namespace ribo {
namespace fs = std::filesystem;
namespace {

// The value of a required top-level section; null, with a diagnostic, where it is missing.
const Value* section(const Value& root, std::string_view key, std::string_view example,
                     Diagnostics& diagnostics) {
  if (const Value* value = root.find(key); value && !value->is_null()) return value;
  diagnostics.error(root.mark, key, cat("missing; e.g. `", key, ": ", example, "`"));
  return nullptr;
}

// Loads the plugins; a refusal of one that the pipeline names tells where it does.
std::unique_ptr<plugins::Host> load_plugins(std::vector<fs::path> search, const Value* named,
                                            const std::vector<std::string>& files) {
  std::copy_if(files.begin(), files.end(), std::back_inserter(search),
               [](const std::string& file) { return !file.empty(); });
  try {
    return std::make_unique<plugins::Host>(search);
  } catch (const PluginError& e) {
    const std::string what = e.what();
    for (size_t i = 0; i < files.size(); ++i) {
      if (!what.starts_with(files[i] + ": ")) continue;
      const Mark& mark = named->is_list() ? named->items[i].mark : named->mark;
      throw PluginError(cat(mark.str(), ": plugins[", i, "]: ", what));
    }
    throw;
  }
}

bool is_device(const std::string& text) {
  try {
    const at::Device device(text);
    return device.is_cpu() || device.is_cuda();
  } catch (const c10::Error&) {
    return false;
  }
}

fs::path folder_of(const Pipeline& pipeline) {
  return fs::absolute(pipeline.file).lexically_normal().parent_path();
}

// The files of the data section as they are to be opened, and to be kept in a run. An unknown
// source is told by choose().
void place_files(Value& data, const plugins::Host& host, const fs::path& base,
                 const std::optional<EvaluatedData>& evaluated) {
  const Value* type = data.is_map() ? data.find("type") : nullptr;
  const auto it = type && type->is_scalar() ? host.data().find(type->text) : host.data().end();
  if (it == host.data().end()) return;
  const SchemaBase& source = *it->second.factory.schema;
  make_files_absolute(data, source, base);
  if (evaluated) leave_one_split(data, type->text, source, *evaluated);
}

template <class Factory>
Origin origin_of(const Chosen<Factory>& chosen) {
  return {chosen.entry->plugin, chosen.path, chosen.type};
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

Session::Session(const SessionRequest& request) {
  Diagnostics diagnostics;
  pipeline_ = load_pipeline(request.pipeline, request.sets, diagnostics);
  evaluated_ = request.evaluated;
  const Value& root = pipeline_.root;
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
  if (seed < 0) {
    diagnostics.error(root.find("seed")->mark, "seed", cat("must be at least 0, got ", seed));
  }
  const bool names_a_folder =
      !name_.empty() && name_ != "." && name_ != ".." && name_.find('/') == std::string::npos;
  if (const Value& name = *root.find("name"); name.is_scalar() && !names_a_folder) {
    diagnostics.error(name.mark, "name", cat("must name a run's folder, got ", name.describe(),
                                             "; give a name without \"/\""));
  }
  host_ = load_plugins(request.plugin_path, root.find("plugins"), plugin_files);

  const Value* data = section(root, "data", "{type: simulated}", diagnostics);
  const Value* model = section(root, "model", "{streams: ..., blocks: [...]}", diagnostics);
  const Value* loss = section(root, "loss", "{type: mae}", diagnostics);
  const Value* metrics = section(root, "metrics", "[{type: mae}]", diagnostics);
  const Value* train = section(root, "train", "{optimizer: ..., schedule: ...}", diagnostics);
  if (data) {
    place_files(*pipeline_.root.find("data"), *host_, folder_of(pipeline_), evaluated_);
    data_choice_ = choose(*host_, host_->data(), "data source", *data, "data", {}, diagnostics);
  }
  if (model) plan_ = read_plan(*model, *host_, diagnostics);
  if (loss) {
    loss_choice_ = choose(*host_, host_->losses(), "loss", *loss, "loss", {}, diagnostics);
  }
  if (metrics && metrics->is_list() && !metrics->items.empty()) {
    for (size_t i = 0; i < metrics->items.size(); ++i) {
      const Value& item = metrics->items[i];
      const std::string path = cat("metrics[", i, "]");
      auto chosen = choose(*host_, host_->metrics(), "metric", item, path, {"name"}, diagnostics);
      std::string name = chosen.type;
      if (const Value* given = item.is_map() ? item.find("name") : nullptr) {
        const std::string wrong = read_value(*given, name);
        if (!wrong.empty()) diagnostics.error(given->mark, path + ".name", wrong);
      }
      const auto same = std::find(metric_names_.begin(), metric_names_.end(), name);
      if (!name.empty() && same != metric_names_.end()) {
        diagnostics.error(item.mark, path, cat("a second metric is called \"", name,
                                               "\"; give it a name of its own with \"name\""));
      }
      metric_names_.push_back(name);
      metric_choices_.push_back(std::move(chosen));
    }
  } else if (metrics) {
    diagnostics.error(metrics->mark, "metrics",
                      "expected a list such as [{type: mae}]; the first one decides what is best");
  }
  if (const Value* init = root.find("init_from"); init && !init->is_null()) {
    init_from_schema().parse(*init, "init_from", {}, diagnostics, &init_from_.emplace());
  }
  if (train) {
    train_schema().parse(*train, "train", {}, diagnostics, &options_);
    if (train->find("optimizer")) {
      optimizer_ = choose_own(optimizers(), "optimizer", options_.optimizer, "train.optimizer",
                              optimizer_options_, diagnostics);
    }
    check_learning_rates(options_.learning_rates, diagnostics);
    if (train->find("schedule")) {
      schedule_ = choose_own(schedules(), "schedule", options_.schedule, "train.schedule",
                             schedule_options_, diagnostics);
    }
    if (options_.device != "auto" && !is_device(options_.device)) {
      diagnostics.error(train->find("device")->mark, "train.device",
                        cat("\"", options_.device, "\" is no device; say cpu, cuda or cuda:0"));
    }
  }
  diagnostics.throw_if_any();
}

at::Device Session::device() const {
  const bool gpu = at::hasCUDA();
  if (options_.device == "auto") return gpu ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const at::Device device(options_.device);
  if (device.is_cuda() && !gpu) {
    throw ConfigError(cat(pipeline_.root.find("train")->find("device")->mark.str(),
                          ": train.device: there is no CUDA device here; say cpu or auto"));
  }
  return device;
}

template <class Product, class Factory, class... Args>
std::shared_ptr<Product> Session::make(const Chosen<Factory>& chosen, const Args&... args) const {
  return plugins::guarded(*chosen.entry->plugin, chosen.path, chosen.type, [&] {
    return chosen.entry->factory.make(chosen.options.get(), args...);
  });
}

void Session::assume(std::vector<StreamSpec> specs) {
  specs_ = std::move(specs);
  Diagnostics diagnostics;
  walk_plan(plan_, *pipeline_.root.find("model"), specs_, diagnostics);
  diagnostics.throw_if_any();
}

void Session::open() {
  DataContext context;
  context.base = folder_of(pipeline_);
  context.cache = cache_folder();
  context.seed = seed_;
  std::error_code ec;
  fs::create_directories(context.cache, ec);
  if (ec) {
    throw Error(cat("cannot create the cache folder ", context.cache.string(), ": ", ec.message(),
                    "; set RIBO_CACHE to a writable folder"));
  }
  std::vector<StreamSpec> specs;
  origin_of(data_choice_).guard_foreign([&] {
    data_ = data_choice_.entry->factory.make(data_choice_.options.get(), context);
    specs = data_->streams();
  });
  assume(std::move(specs));

  Diagnostics diagnostics;
  const auto fits = [&](auto& product, const Mark& mark) {
    Shapes shapes = plan_.result;
    try {
      product.shapes(shapes);
    } catch (const ConfigError& e) {
      diagnostics.error(mark, "", e.what());
    }
  };
  const auto loss =
      std::make_shared<GuardedLoss>(make<Loss>(loss_choice_), origin_of(loss_choice_));
  fits(*loss, pipeline_.root.find("loss")->mark);
  loss_ = loss;
  for (size_t i = 0; i < metric_choices_.size(); ++i) {
    const auto& chosen = metric_choices_[i];
    const auto metric = std::make_shared<GuardedMetric>(make<Metric>(chosen), origin_of(chosen));
    fits(*metric, pipeline_.root.find("metrics")->items[i].mark);
    metrics_.push_back({metric_names_[i], metric});
  }
  diagnostics.throw_if_any();
  if (evaluated_) {
    (void)split(evaluated_->split);
    return;
  }
  (void)split("train");
  (void)split("valid");
}

std::shared_ptr<const Split> Session::split(std::string_view name) const {
  const Origin origin = origin_of(data_choice_);
  const auto split = origin.guard_foreign([&] { return data_->split(name); });
  if (!split || split->size() == 0) {
    throw Error(cat("data (", data_choice_.type, "): there are no sequences in the split \"", name,
                    "\"",
                    remedy_for_no_split(*pipeline_.root.find("data"),
                                        *data_choice_.entry->factory.schema, name,
                                        evaluated_.has_value())));
  }
  return std::make_shared<GuardedSplit>(split, origin);
}

std::shared_ptr<Model> Session::build_model() const {
  at::manual_seed(seed_);
  // cuDNN's attention backward can give NaN on Hopper with a mask (pytorch issue 196678).
  at::globalContext().setSDPUseCuDNN(false);
  auto model = std::make_shared<Model>(plan_);
  model->to(device());
  if (init_from_) freeze_weights(*model, *init_from_, *pipeline_.root.find("init_from"));
  return model;
}

void Session::load_initial_weights(Model& model) const {
  if (!init_from_) return;
  ribo::load_initial_weights(model, *init_from_, *pipeline_.root.find("init_from"));
}

void Session::check_weights(bool resuming) const {
  if (!init_from_ && options_.learning_rates.is_null()) return;
  const auto model = build_model();
  (void)parameters(*model);
  if (!init_from_ || resuming) return;
  ribo::check_initial_weights(*model, *init_from_, *pipeline_.root.find("init_from"));
}

Parameters Session::parameters(const Model& model) const {
  Parameters all, trained;
  for (const auto& item : model.named_parameters()) all.push_back({item.key(), item.value()});
  apply_learning_rates(options_.learning_rates, all);
  for (Parameter& parameter : all) {
    if (parameter.tensor.requires_grad()) trained.push_back(std::move(parameter));
  }
  return trained;
}

FloorTables Session::fit_floors() const {
  return ribo::fit_floors(*split("train"), metrics_, plan_.result);
}

std::vector<std::vector<NamedMetric>> Session::metrics_by_column() const {
  std::vector<std::vector<NamedMetric>> out(metrics_.size());
  for (size_t m = 0; m < metrics_.size(); ++m) {
    const std::string path = cat("metrics[", m, "]");
    Value item = pipeline_.root.find("metrics")->items[m];
    const auto& params = metric_choices_[m].entry->factory.schema->params();
    if (std::none_of(params.begin(), params.end(),
                     [](const Param& p) {
                       return p.name == "columns" && p.type == "list of strings";
                     })) {
      continue;
    }
    std::vector<std::string> columns = plan_.result.labels("pred." + metrics_[m].metric->target());
    Diagnostics diagnostics;
    if (const Value* given = item.is_map() ? item.find("columns") : nullptr) {
      std::vector<std::string> chosen;
      if (read_value(*given, chosen).empty() && !chosen.empty()) columns = chosen;
    }
    for (const std::string& column : columns) {
      Value list = Value::list(item.mark);
      list.items.push_back(Value::scalar(column, item.mark, /*quoted=*/true));
      item.set("columns", std::move(list));
      const auto chosen =
          choose(*host_, host_->metrics(), "metric", item, path, {"name"}, diagnostics);
      diagnostics.throw_if_any();
      const auto metric = std::make_shared<GuardedMetric>(make<Metric>(chosen), origin_of(chosen));
      Shapes shapes = plan_.result;
      metric->shapes(shapes);
      out[m].push_back({column, metric});
    }
  }
  return out;
}

Training Session::prepare(const Process& process, bool resuming) const {
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
  if (const int64_t sequences = out.train->split().size(); sequences < options_.batch) {
    log::warn(cat("train.batch is ", options_.batch, ", but there are ", sequences,
                  " sequences to train on; one update takes them all"));
  }
  out.floor_tables = fit_floors();
  out.floors = score_floors(make_floors(out.floor_tables, metrics_, plan_.result), *out.valid,
                            metrics_);
  out.model = build_model();
  if (!resuming) load_initial_weights(*out.model);
  out.optimizer = optimizer_->make(optimizer_options_.get(), parameters(*out.model));
  out.schedule = schedule_->make(schedule_options_.get());
  return out;
}

}  // namespace ribo
