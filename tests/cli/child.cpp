#include "child.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <regex>
#include <sstream>

#include "include/ribo/version.h"

extern char** environ;

namespace ribo::testing {
namespace fs = std::filesystem;
namespace {

// What a person's shell may hold and a test must not see.
constexpr const char* kForgotten[] = {"RIBO_PLUGIN_PATH", "RIBO_DATA", "RIBO_CACHE", "NOTHING",
                                      "LD_PRELOAD"};

std::vector<std::string> environment_of(const Place& place) {
  std::map<std::string, std::string> all;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    all[text.substr(0, text.find('='))] = text.substr(text.find('=') + 1);
  }
  for (const char* name : kForgotten) all.erase(name);
  all["RIBO_CACHE"] = (place.cache / "cache").string();
  // A busy neighbour makes spinning OpenMP threads wait for each other many times as long.
  all["OMP_NUM_THREADS"] = "1";
  all["OMP_WAIT_POLICY"] = "PASSIVE";
  for (const auto& [name, value] : place.environment) all[name] = value;
  std::vector<std::string> out;
  for (const auto& [name, value] : all) out.push_back(name + "=" + value);
  return out;
}

// Between fork and exec.
bool become_nobody() {
  constexpr id_t kNobody = 65534;
  return ::setgroups(0, nullptr) == 0 && ::setgid(kNobody) == 0 && ::setuid(kNobody) == 0;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

}  // namespace

Child::Child(const std::vector<std::string>& arguments, const Place& place) {
  std::vector<std::string> command = {RIBO_BINARY_DIR "/bin/ribo-run"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment = environment_of(place);
  const std::vector<char*> argv = pointers(command), envp = pointers(environment);
  const std::string out = (output_ / "out").string(), err = (output_ / "err").string();
  const std::string directory = place.directory.string();
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::setpgid(0, 0);
  const int null = ::open("/dev/null", O_RDONLY);
  const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (::chdir(directory.c_str()) == 0 && ::dup2(null, 0) == 0 && ::dup2(out_fd, 1) == 1 &&
      ::dup2(err_fd, 2) == 2 &&
      (!place.unprivileged || ::geteuid() != 0 || become_nobody())) {
    ::execve(argv[0], argv.data(), envp.data());
  }
  ::_exit(127);
}

Child::~Child() {
  if (pid_ <= 0) return;
  ::kill(-pid_, SIGKILL);
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Child::signal(int number) const { ASSERT_EQ(::kill(pid_, number), 0); }

Outcome Child::wait(std::chrono::seconds limit) {
  Outcome outcome;
  int status = 0;
  const bool ended =
      wait_until([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }, limit);
  if (ended) {
    pid_ = -1;
    outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  } else {
    ADD_FAILURE() << "ribo-run did not end within " << limit.count() << " s";
  }
  outcome.out = read_text(output_ / "out");
  outcome.err = read_text(output_ / "err");
  return outcome;
}

Outcome ribo_run(const std::vector<std::string>& arguments, const Place& place) {
  return Child(arguments, place).wait();
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<std::string>(in), {}};
}

std::string replace_all(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

fs::path test_plugins(const std::string& folder) {
  return fs::path(RIBO_BINARY_DIR) / "tests/plugins" / folder;
}

fs::path built_in_plugins() {
  for (const char* lib : {"lib", "lib64"}) {
    const fs::path path = fs::path(RIBO_BINARY_DIR) / lib / "ribo/plugins";
    if (fs::exists(path)) return path;
  }
  return fs::path(RIBO_BINARY_DIR) / "lib/ribo/plugins";
}

std::string normalize(std::string text, const fs::path& folder) {
  text = replace_all(text, fs::canonical(folder).string(), "<folder>");
  text = replace_all(text, fs::canonical(built_in_plugins()).string(), "<built-in>");
  text = replace_all(text, test_plugins("").string(), "<plugins>/");
  text = replace_all(text, ".so " RIBO_VERSION, ".so <version>");
  return std::regex_replace(text, std::regex(R"(this ribo-run has "[^"]*")"),
                            "this ribo-run has \"<build>\"");
}

}  // namespace ribo::testing
