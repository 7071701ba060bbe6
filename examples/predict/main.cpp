// Prints the profiles of sequences, a row a nucleotide: predict RUN SEQUENCE...
#include <ribo/predictor.h>

#include <iostream>

int main(int count, char** arguments) try {
  if (count < 3) throw ribo::ConfigError("Usage: predict RUN SEQUENCE...");
  const std::vector<std::string> sequences(arguments + 2, arguments + count);
  const ribo::Predictor predictor({arguments[1]});
  const std::vector<at::Tensor> profiles = predictor.predict(sequences);
  std::cout.precision(9);  // as many digits as tell every float from its neighbours
  for (size_t i = 0; i < sequences.size(); ++i) {
    const float* value = profiles[i].const_data_ptr<float>();  // [L, targets]
    for (const char base : sequences[i]) {
      std::cout << base;
      for (size_t t = 0; t < predictor.targets().size(); ++t) std::cout << ' ' << *value++;
      std::cout << '\n';
    }
  }
} catch (const ribo::Error& e) {
  std::cerr << e.what() << '\n';
  return e.exit_status();
}
