#include "cli/verbs.h"
#include "ribo/log.h"
#include "train/session.h"
#include "weights/convert.h"
#include "weights/foreign.h"

namespace ribo::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kUsage =
    "Usage: ribo-run convert SOURCE DEST --map MAP.yaml [options]\n"
    "Writes the weights of SOURCE (a .safetensors file, a .pt file with a state_dict, a run or a\n"
    "checkpoint) to DEST.safetensors: another program's under this framework's names, or this\n"
    "framework's under the other's. The names of SOURCE tell which. Nothing is written unless every\n"
    "tensor has its place.\n";

// The tensors that this framework would load, against the model of a pipeline.
void check_model(const po::variables_map& values, const Tensors& ours, const std::string& file) {
  Session session(session_request(values));
  session.open();
  const Misfits misfits = compare_weights(named_weights(Model(session.plan())), ours);
  if (misfits.empty()) return;
  throw Error(cat(file, ": these are not the weights of ", values["pipeline"].as<std::string>(), ":",
                  misfits.str()));
}

void check_destination(const fs::path& path) {
  if (path.extension() == ".safetensors") return;
  throw ConfigError(cat(path.string(), ": convert writes .safetensors files only",
                        path.extension() == ".pt"
                            ? "; Python makes a .pt of one: "
                              "torch.save(safetensors.torch.load_file(\"x.safetensors\"), \"x.pt\")"
                            : "; end the name of DEST so"));
}

}  // namespace

int convert(const Arguments& arguments) {
  po::options_description options("Options");
  options.add_options()("files", po::value<std::vector<std::string>>()->required(), "SOURCE DEST")(
      "map", po::value<std::string>(), "the map file, e.g. maps/ribonanzanet.yaml")(
      "pipeline", po::value<std::string>(), "check names and shapes against this pipeline's model")(
      "set", po::value<std::vector<std::string>>()->composing(), "a.b[2].c=value in the pipeline");
  po::variables_map values;
  if (!parse(arguments, kUsage, options, "files...", values)) return 0;
  apply_common(values);
  const auto& files = values["files"].as<std::vector<std::string>>();
  if (files.size() != 2) throw ConfigError("say which SOURCE to convert, and to which DEST");
  if (!values.count("map")) {
    throw ConfigError("say with --map how the names correspond, e.g. --map maps/ribonanzanet.yaml");
  }
  const std::string& source = files[0];
  const fs::path destination = files[1];
  check_destination(destination);

  const NameMap map = NameMap::read(find_file(values["map"].as<std::string>()));
  const Tensors tensors = read_weights(source);
  const Side side = map.side_of(names_of(tensors));
  const Conversion converted = ribo::convert(tensors, map, side);
  if (!converted.misfits.empty()) {
    throw Error(cat(source, ": not all tensors can be converted by ",
                    values["map"].as<std::string>(), ":",
                    converted.misfits.str("no pattern matches")));
  }
  if (values.count("pipeline")) {
    check_model(values, side == Side::ours ? tensors : converted.tensors, source);
  }
  // Python's libraries want to know who wrote the tensors; "pt" = as PyTorch lays them out.
  write_safetensors(destination, converted.tensors, {{"format", "pt"}});
  log::info(cat(tensors.size(), " tensors -> ", converted.tensors.size(), " under ",
                side == Side::ours ? "the other program's" : "this framework's", " names: ",
                destination.string()));
  return 0;
}

}  // namespace ribo::cli
