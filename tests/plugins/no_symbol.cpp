// A shared library that is no plugin.
extern "C" int ribo_test_answer() { return 42; }
